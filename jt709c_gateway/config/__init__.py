"""Options: read from the command line and a configuration file, checked, and given to the service."""
