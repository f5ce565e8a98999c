"""Moves the keys of a stopped fleet to another number of partitions, or to other servers."""
