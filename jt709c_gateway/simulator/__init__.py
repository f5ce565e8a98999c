"""Virtual locks for the command line, tests and benchmarks."""
