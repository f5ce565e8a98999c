"""Several gateway processes on one host that share its ports: ``--workers N``."""
