"""What the locks say on the wire, sans-IO: bytes in, messages or typed errors out (PROTOCOL.md)."""
