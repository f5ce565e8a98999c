"""Where locks, sessions, the committer and orders meet."""
