"""Captures replayed: files to steps (`lines`, `packets`, `streams`), steps to a gateway (`player`)."""
