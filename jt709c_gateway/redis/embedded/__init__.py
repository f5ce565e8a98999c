"""A Valkey server of our own: its data directory, its password, its process and its supervision."""
