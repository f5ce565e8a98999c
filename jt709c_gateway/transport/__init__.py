"""TCP and UDP: bytes to the handler, nothing else."""
