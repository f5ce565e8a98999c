"""The jt709c command line."""
