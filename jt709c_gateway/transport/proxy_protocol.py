"""Parses the PROXY header, in which a TCP load balancer names the original peer.

Format: *The PROXY protocol*, HAProxy's ``doc/proxy-protocol.txt``, sections 2.1 (version 1, a line of text)
and 2.2 (version 2, binary). Twisted's wrapper is not used: it builds the protocol, which is counted, before
its address is known; it closes on a header in several chunks and on a bare ``PROXY UNKNOWN``, and raises on
an invalid port.
"""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from attrs import frozen

#: The prefix of an endpoint's description for connections from a load balancer.
PROXIED: Final = "haproxy:"
#: Maximum length of a text header with its line end.
_MAX_TEXT: Final = 107
_TEXT: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
#: Signature, version and command, family and protocol, length of the rest.
_BINARY: Final = struct.Struct("!12sBBH")
#: Maximum bytes after these: addresses have 12 to 216, and ignored details may follow.
_MAX_BINARY: Final = 4096
#: Bytes kept of an invalid header, which may be a lock's frame: too few for a password.
_KEPT: Final = 5
_LOCAL, _PROXY = 0, 1
#: Stream over IPv4 and IPv6: both addresses, then both ports.
_INET, _INET6 = 0x11, 0x21
_ADDRESSES: Final = {_INET: struct.Struct("!4s4sHH"), _INET6: struct.Struct("!16s16sHH")}


def split_proxied(description: str) -> tuple[str, bool]:
    """Return a server endpoint for Twisted, and whether its connections begin with a PROXY header."""
    return description.removeprefix(PROXIED), description.startswith(PROXIED)


class BadHeader(ValueError):
    """Not a valid PROXY header. `raw` is the header, or its first bytes."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(f"not a PROXY header: {raw.hex()}")
        self.raw = raw


@frozen
class Source:
    """The original peer of a connection; `host` is None for a connection of the balancer itself."""

    host: str | None
    port: int = 0


class HeaderReader:
    """Reads the header at the start of a connection, in any number of chunks."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[Source, bytes] | None:
        """Return the source and the bytes after the header, None until it is complete; raise BadHeader."""
        self._buffer += data
        buffer = self._buffer
        if buffer.startswith(_SIGNATURE[: len(buffer)]):
            return self._binary(buffer)
        if buffer.startswith(_TEXT[: len(buffer)]):
            return self._text(buffer)
        raise BadHeader(buffer[:_KEPT])

    @staticmethod
    def _text(buffer: bytes) -> tuple[Source, bytes] | None:
        end = buffer.find(b"\r\n", 0, _MAX_TEXT)
        if end < 0:
            if len(buffer) >= _MAX_TEXT:
                raise BadHeader(buffer[:_MAX_TEXT])
            return None
        return _text_source(buffer[:end]), buffer[end + 2 :]

    @staticmethod
    def _binary(buffer: bytes) -> tuple[Source, bytes] | None:
        if len(buffer) < _BINARY.size:
            return None
        _, version_command, family, length = _BINARY.unpack_from(buffer)
        version, command = version_command >> 4, version_command & 0x0F
        if version != 2 or command not in (_LOCAL, _PROXY) or length > _MAX_BINARY:
            raise BadHeader(buffer[: _BINARY.size])
        end = _BINARY.size + length
        if len(buffer) < end:
            return None
        layout = _ADDRESSES.get(family)
        if command == _LOCAL or layout is None:
            return Source(None), buffer[end:]
        if length < layout.size:
            raise BadHeader(buffer[:end])
        host, _, port, _ = layout.unpack_from(buffer, _BINARY.size)
        return Source(str(ip_address(host)), port), buffer[end:]


def _text_source(line: bytes) -> Source:
    """Parse ``PROXY TCP4 192.0.2.7 203.0.113.1 50112 8888``; anything may follow UNKNOWN."""
    _, family, *rest = line.split(b" ")
    if family == b"UNKNOWN":
        return Source(None)
    kind = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}.get(family)
    try:
        if kind is None:
            raise ValueError
        source, destination, *ports = (item.decode("ascii") for item in rest)
        port, _ = (_port(text) for text in ports)
        kind(destination)
        return Source(str(kind(source)), port)
    except ValueError:
        raise BadHeader(line) from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 0xFFFF:
        raise ValueError
    return int(text)
