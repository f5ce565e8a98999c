"""Reads pcap and pcapng files with dpkt, and extracts the bytes sent to a port."""

import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final

import dpkt
from attrs import frozen

from jt709c_gateway.cli.replay.steps import CaptureError, Chunk, LeftOut, Step
from jt709c_gateway.cli.replay.tcp_reassembly import ACK, RST, SYN, Segment, Streams

#: The first four bytes of a pcapng file.
PCAPNG: Final = bytes.fromhex("0a0d0d0a")
#: The longest packet or block, bytes: sniffers cut at 256 KiB.
_LONGEST: Final = 1 << 20
#: Maximum ports counted for the message that nothing was sent to the requested ones.
_PORTS_NOTED: Final = 1000

#: Link types (tcpdump.org/linktypes.html) and the class that decodes each down to the IP packet.
_LINKS: Final[dict[int, Callable[[bytes], Any]]] = {
    0: dpkt.loopback.Loopback,
    1: dpkt.ethernet.Ethernet,
    108: dpkt.loopback.Loopback,
    113: dpkt.sll.SLL,
    276: dpkt.sll2.SLL2,
    **dict.fromkeys((12, 14, 101, 228, 229), lambda data: _Bare(data)),
}
_IDB, _OLD, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_SECOND: Final = 1e6


class _Bare:
    """Return an IP packet without link layer."""

    def __init__(self, data: bytes) -> None:
        self.data = (dpkt.ip6.IP6 if data[:1] >= b"\x60" else dpkt.ip.IP)(data)


@frozen
class _Packet:
    """A captured packet; `at` is in epoch seconds, None if the file has no time for it."""

    at: float | None
    link: int
    data: bytes


class _Source:
    """Reads whole records of bounded length from a file."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name
        self.number = 0

    @property
    def where(self) -> str:
        """The position for error messages."""
        return f"{self.name}, packet {self.number}: "

    def read(self, size: int) -> bytes:
        """Read `size` bytes, or none at the end; raise CaptureError if fewer are left."""
        if not 0 <= size <= _LONGEST:
            raise CaptureError(f"{self.where}a record of {size} bytes; the file is broken")
        data = self._file.read(size)
        if data and len(data) < size:
            raise CaptureError(f"{self.where}the file ends in the middle of it")
        return data

    def all(self, size: int) -> bytes:
        """Read bytes; raise CaptureError at the end."""
        data = self.read(size)
        if len(data) < size:
            raise CaptureError(f"{self.where}the file ends in the middle of it")
        return data


def _pcap(source: _Source) -> Iterator[_Packet]:
    try:
        reader = dpkt.pcap.Reader(source)
    except (ValueError, dpkt.UnpackError):
        raise CaptureError(f"{source.name}: the head of this pcap file is broken") from None
    link = reader.datalink()
    source.number = 1
    for at, data in reader:
        if not data:
            raise CaptureError(f"{source.where}the file ends in the middle of it")
        yield _Packet(float(at), link, data)
        source.number += 1


@frozen
class _Interface:
    """An interface of a pcapng file: link type, and length of a tick and offset of times in seconds."""

    link: int
    tick: float
    offset: int


def _pcapng(source: _Source) -> Iterator[_Packet]:
    """Yield packets of pcapng blocks. dpkt's own reader assigns all packets to the first interface."""
    interfaces: list[_Interface] = []
    command = "<"
    source.number = 1
    while head := source.read(8):
        if head[:4] == PCAPNG:
            head += source.all(4)
            command = "<" if head[8:] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces.clear()
        kind, length = struct.unpack(command + "II", head[:8])
        if length < len(head) + 4 or length % 4:
            raise CaptureError(f"{source.where}a block of {length} bytes; the file is broken")
        block = head + source.all(length - len(head))
        try:
            if kind == _IDB:
                interfaces.append(_interface(block, command))
            elif (packet := _block(kind, block, command, interfaces)) is not None:
                yield packet
                source.number += 1
        except (dpkt.UnpackError, struct.error, IndexError):
            raise CaptureError(f"{source.where}a block that can't be read; the file is broken") from None


def _interface(block: bytes, command: str) -> _Interface:
    little = command == "<"
    parsed = (dpkt.pcapng.InterfaceDescriptionBlockLE if little else dpkt.pcapng.InterfaceDescriptionBlock)(
        block
    )
    tick, offset = 1 / _SECOND, 0
    for option in parsed.opts:
        if option.code == dpkt.pcapng.PCAPNG_OPT_IF_TSRESOL:
            power = option.data[0] & 0x7F
            tick = 2.0**-power if option.data[0] & 0x80 else 10.0**-power
        elif option.code == dpkt.pcapng.PCAPNG_OPT_IF_TSOFFSET:
            (offset,) = struct.unpack(command + "q", option.data)
    return _Interface(parsed.linktype, tick, offset)


def _block(kind: int, block: bytes, command: str, interfaces: list[_Interface]) -> _Packet | None:
    if kind == _SIMPLE:
        (length,) = struct.unpack_from(command + "I", block, 8)
        return _Packet(None, interfaces[0].link, block[12:-4][:length])
    if kind == _ENHANCED:
        little = command == "<"
        parsed = (dpkt.pcapng.EnhancedPacketBlockLE if little else dpkt.pcapng.EnhancedPacketBlock)(block)
    elif kind == _OLD:
        parsed = (dpkt.pcapng.PacketBlockLE if command == "<" else dpkt.pcapng.PacketBlock)(block)
    else:
        return None
    interface = interfaces[parsed.iface_id]
    ticks = parsed.ts_high << 32 | parsed.ts_low
    return _Packet(interface.offset + ticks * interface.tick, interface.link, parsed.pkt_data)


def read(file: IO[bytes], name: str, ports: frozenset[int], left_out: LeftOut) -> Iterator[Step]:
    """Yield the steps of a capture: bytes sent to one of `ports`; raise CaptureError for a damaged file."""
    source = _Source(file, name)
    magic = file.peek(4)[:4]  # type: ignore[attr-defined]
    dissector = _Dissector(source, ports, left_out)
    yield from dissector.steps(_pcapng(source) if magic == PCAPNG else _pcap(source))


def records(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield link type and bytes of each packet; raise CaptureError for a damaged file."""
    source = _Source(file, name)
    magic = file.read(4)
    file.seek(0)
    for packet in _pcapng(source) if magic == PCAPNG else _pcap(source):
        yield packet.link, packet.data


class _Dissector:
    """Decodes packets and assigns them to connections."""

    def __init__(self, source: _Source, ports: frozenset[int], left_out: LeftOut) -> None:
        self._source = source
        self._ports = ports
        self._left_out = left_out
        self._streams = Streams(left_out)
        self._other: Counter[int] = Counter()

    def steps(self, packets: Iterable[_Packet]) -> Iterator[Step]:
        """Yield all steps of the capture."""
        found, at = False, None
        for packet in packets:
            at = packet.at
            for step in self._steps(packet):
                found = True
                yield step
        yield from self._streams.finish(at)
        if not found:
            raise CaptureError(self._nothing())

    def _nothing(self) -> str:
        wanted = ", ".join(map(str, sorted(self._ports)))
        seen = ", ".join(str(port) for port, _ in self._other.most_common(5))
        there = f"something was for {seen}" if seen else "no connection begins in it"
        return f"{self._source.name}: nothing was sent to port {wanted} (--port); {there}"

    def _steps(self, packet: _Packet) -> Iterator[Step]:
        ip = self._ip(packet)
        if ip is None:
            return
        if _is_fragment(ip):
            self._left_out.fragments += 1
            return
        at = packet.at if packet.at is not None else 0.0
        if isinstance(ip.data, dpkt.tcp.TCP):
            yield from self._tcp(ip, ip.data, at)
        elif isinstance(ip.data, dpkt.udp.UDP):
            yield from self._udp(ip, ip.data, at)

    def _ip(self, packet: _Packet) -> Any:
        """Return the IP packet in a frame, None if there is none."""
        if packet.link not in _LINKS:
            raise CaptureError(
                f"{self._source.where}link type {packet.link} is not known; expected Ethernet, Linux cooked,"
                " loopback or raw IP"
            )
        try:
            ip = _LINKS[packet.link](packet.data).data
        except (dpkt.UnpackError, struct.error, IndexError, ValueError):
            self._left_out.unreadable += 1
            return None
        return ip if isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6) else None

    def _tcp(self, ip: Any, tcp: Any, at: float) -> Iterator[Step]:
        if tcp.sport in self._ports and tcp.dport not in self._ports:
            if tcp.flags & RST:
                yield from self._streams.reset(_address(ip.dst, tcp.dport), at)
        elif self._is_ours(tcp.dport, counts=tcp.flags & (SYN | ACK) == SYN):
            self._check_whole(ip, len(tcp))
            segment = Segment(_address(ip.src, tcp.sport), tcp.seq, tcp.flags, bytes(tcp.data))
            yield from self._streams.feed(segment, at)

    def _udp(self, ip: Any, udp: Any, at: float) -> Iterator[Step]:
        if self._is_ours(udp.dport, counts=True) and udp.data:
            self._check_whole(ip, len(udp))
            yield Chunk(f"udp {_address(ip.src, udp.sport)}", bytes(udp.data), at, "udp")

    def _is_ours(self, port: int, *, counts: bool) -> bool:
        """Return whether a packet is to be replayed; count the ports of others for the error message."""
        if port in self._ports:
            return True
        if counts and (port in self._other or len(self._other) < _PORTS_NOTED):
            self._other[port] += 1
        return False

    def _check_whole(self, ip: Any, length: int) -> None:
        """Raise CaptureError for a truncated packet, whose missing bytes would damage a frame."""
        if isinstance(ip, dpkt.ip.IP):
            announced = ip.len - ip.hl * 4 if ip.len else length
        else:
            headers = sum(len(header) for header in ip.all_extension_headers)
            announced = ip.plen - headers if ip.plen else length
        if length < announced:
            raise CaptureError(
                f"{self._source.where}cut off by the sniffer after {length} of {announced} bytes; capture"
                " whole packets (tcpdump -s 0)"
            )


def _is_fragment(ip: Any) -> bool:
    if isinstance(ip, dpkt.ip.IP):
        return bool(ip.mf or ip.offset)
    return dpkt.ip.IP_PROTO_FRAGMENT in ip.extension_hdrs


def _address(host: bytes, port: int) -> str:
    name = socket.inet_ntop(socket.AF_INET if len(host) == 4 else socket.AF_INET6, host)
    return f"{name}:{port}" if len(host) == 4 else f"[{name}]:{port}"
