"""Where locks, sessions, the committer and commands meet."""
