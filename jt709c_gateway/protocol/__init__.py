"""The locks' wire protocols without IO: bytes in, messages or typed errors out (docs/protocol.rst)."""
