"""Commands, from the intake list in Redis to the device and to their outcome (docs/commands.rst)."""
