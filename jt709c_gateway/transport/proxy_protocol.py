"""The PROXY header, with which a TCP load balancer says whom it speaks for.

Format: *The PROXY protocol*, HAProxy's ``doc/proxy-protocol.txt``, sections 2.1 (version 1, a line of text)
and 2.2 (version 2, binary). Twisted has a wrapper for it. With that one a protocol is built, counted and
introduced before its address is known; it closes on a header that comes in pieces and on a bare
``PROXY UNKNOWN``, and fails on a port that is no number.
"""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from attrs import frozen

#: What an endpoint's description begins with when a balancer stands before it.
PROXIED: Final = "haproxy:"
#: A text header with its line end, at most.
_MAX_TEXT: Final = 107
_TEXT: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
#: Signature, version and command, family and protocol, length of what follows.
_BINARY: Final = struct.Struct("!12sBBH")
#: Bytes behind these that are taken: addresses have 12 to 216, and details that nobody needs here may follow.
_MAX_BINARY: Final = 4096
#: How many bytes are kept of something that is no header, and may be a lock's frame: too few for a password.
_KEPT: Final = 5
_LOCAL, _PROXY = 0, 1
#: Stream over IPv4 and IPv6: both addresses, then both ports.
_INET, _INET6 = 0x11, 0x21
_ADDRESSES: Final = {_INET: struct.Struct("!4s4sHH"), _INET6: struct.Struct("!16s16sHH")}


def split_proxied(description: str) -> tuple[str, bool]:
    """A server endpoint as Twisted takes it, and whether its connections begin with a PROXY header."""
    return description.removeprefix(PROXIED), description.startswith(PROXIED)


class BadHeader(ValueError):
    """What came is no PROXY header. `raw` is the header, or the little that shows there was none."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(f"not a PROXY header: {raw.hex()}")
        self.raw = raw


@frozen
class Source:
    """Whom a connection comes from; `host` is None where the balancer speaks for itself."""

    host: str | None
    port: int = 0


class HeaderReader:
    """Reads the header at the start of a connection, however its bytes arrive."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[Source, bytes] | None:
        """The source and what follows the header, None until it is whole; BadHeader when it is none."""
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
    """``PROXY TCP4 192.0.2.7 203.0.113.1 50112 8888``; behind UNKNOWN anything may stand."""
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
