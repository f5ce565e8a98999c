"""PROXY headers as balancers send them."""

import socket
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
INET, INET6, UNIX = 0x11, 0x21, 0x31


def v1(host: str, port: int) -> bytes:
    """Return version 1: a line of text."""
    family, there = ("TCP6", "2001:db8::1") if ":" in host else ("TCP4", "203.0.113.1")
    return f"PROXY {family} {host} {there} {port} 8888\r\n".encode()


def v2(host: str, port: int, more: bytes = b"") -> bytes:
    """Return version 2: binary; `more` follows the addresses."""
    six = ":" in host
    family, there = (socket.AF_INET6, "2001:db8::1") if six else (socket.AF_INET, "203.0.113.1")
    addresses = socket.inet_pton(family, host) + socket.inet_pton(family, there)
    return binary(PROXY, INET6 if six else INET, addresses + struct.pack("!HH", port, 8888) + more)


def binary(command: int, family: int, body: bytes = b"") -> bytes:
    """Return version 2 with any body."""
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body
