"""The embedded Valkey server: data directory, password, process and supervision."""
