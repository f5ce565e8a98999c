"""Small things that several packages use and no library has."""
