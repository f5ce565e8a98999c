"""Options: parsed from the command line and a configuration file, and checked."""
