"""Reads sentences from a capture: a Bluetooth HCI log, pcap, pcapng, or text with sentences or hex."""

import io
import re
import struct
from collections.abc import Callable, Iterator
from typing import Final

from attrs import define, field, frozen

from jt709c_gateway.cli.learn.bluetooth import AttConnections
from jt709c_gateway.cli.learn.hex_lines import HexLines
from jt709c_gateway.cli.replay import pcap
from jt709c_gateway.cli.replay.steps import CaptureError

#: Maximum bytes read of a capture, and buffered of a stream while a sentence is incomplete.
LONGEST: Final = 256 << 20
_OPEN: Final = 2048
_BTSNOOP: Final = b"btsnoop\x00"
_PCAP: Final = frozenset(
    bytes.fromhex(one) for one in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")
)
#: A sentence to a lock or from one: `(Pnn…)`, or `(id,…)`.
_SENTENCE: Final = re.compile(rb"\((?:P[0-9]{2}(?:,[^()]*)?|[0-9]{1,20},[^()]{1,1000})\)")
_SENT: Final = re.compile(r"\b(?:tx|sent|send|write|out)\b|>>|->", re.IGNORECASE)
_RECEIVED: Final = re.compile(r"\b(?:rx|received?|recv|read|notif\w*|indication|in)\b|<<|<-", re.IGNORECASE)
_ACL: Final = 2
_HCI_H4, _HCI_H4_PHDR, _LINUX_MONITOR = 187, 201, 254
_MONITOR_ACL: Final = {4: True, 5: False}
_BTSNOOP_H1, _BTSNOOP_MONITOR = 1001, 2001


@frozen
class Captured:
    """A sentence, and whether it was sent to the lock (None: unknown)."""

    raw: bytes = field(repr=False)
    sent: bool | None


@define
class _Streams:
    """Collects the bytes of each channel and direction, since a sentence may be split over packets."""

    found: list[Captured] = field(factory=list)
    _open: dict[tuple[bool | None, int], bytes] = field(factory=dict)

    def feed(self, sent: bool | None, channel: int, data: bytes) -> None:
        whole = self._open.get((sent, channel), b"") + data
        end = 0
        for sentence in _SENTENCE.finditer(whole):
            self.found.append(Captured(sentence[0], sent))
            end = sentence.end()
        self._open[sent, channel] = whole[end:][-_OPEN:]


def read(data: bytes, name: str) -> list[Captured]:
    """Read the sentences of a capture in order; raise CaptureError."""
    if data.startswith(_BTSNOOP):
        return _from_bluetooth(_btsnoop(data, name))
    if data[:4] in _PCAP:
        return _from_packets(data, name)
    return _from_text(data.decode("latin-1"))


Hci = Iterator[tuple[bool | None, bytes]]


def _from_bluetooth(acl: Hci) -> list[Captured]:
    links, streams = AttConnections(), _Streams()
    for sent, packet in acl:
        for channel, value in links.feed(sent, packet):
            streams.feed(sent, channel, value)
    return streams.found


def _btsnoop(data: bytes, name: str) -> Hci:
    """ACL packets of Android's HCI log: records of lengths, flags (1 received, 2 no data), drops, time."""
    if len(data) < 16:
        raise CaptureError(f"{name}: the head of this Bluetooth log is broken")
    (kind,) = struct.unpack_from(">I", data, 12)
    at = 16
    while at < len(data):
        if len(data) - at < 24:
            raise CaptureError(f"{name}: the log ends in the middle of a record")
        _, size, flags = struct.unpack_from(">III", data, at)
        packet = data[at + 24 : at + 24 + size]
        if len(packet) < size:
            raise CaptureError(f"{name}: the log ends in the middle of a record")
        at += 24 + size
        if kind == _BTSNOOP_MONITOR:
            if (sent := _MONITOR_ACL.get(flags & 0xFFFF)) is not None:
                yield sent, packet
        elif kind == _BTSNOOP_H1:
            if not flags & 2:
                yield not flags & 1, packet
        elif packet[:1] == bytes([_ACL]):
            yield not flags & 1, packet[1:]


def _from_packets(data: bytes, name: str) -> list[Captured]:
    links, streams = AttConnections(), _Streams()
    for link, packet in pcap.records(io.BytesIO(data), name):
        if link in _HCI:
            if acl := _HCI[link](packet):
                for channel, value in links.feed(*acl):
                    streams.feed(acl[0], channel, value)
        else:
            # A serial line or TCP: sentences are ASCII, whatever surrounds them.
            streams.feed(None, 0, packet)
    return streams.found


def _monitor(packet: bytes) -> tuple[bool, bytes] | None:
    if len(packet) < 4:
        return None
    sent = _MONITOR_ACL.get(struct.unpack_from(">H", packet, 2)[0])
    return None if sent is None else (sent, packet[4:])


def _h4_with_direction(packet: bytes) -> tuple[bool, bytes] | None:
    is_acl = packet[4:5] == bytes([_ACL])
    return (not packet[3] & 1, packet[5:]) if is_acl else None


def _h4(packet: bytes) -> tuple[None, bytes] | None:
    return (None, packet[1:]) if packet[:1] == bytes([_ACL]) else None


_HCI: Final[dict[int, Callable[[bytes], tuple[bool | None, bytes] | None]]] = {
    _HCI_H4: _h4,
    _HCI_H4_PHDR: _h4_with_direction,
    _LINUX_MONITOR: _monitor,
}


def _from_text(text: str) -> list[Captured]:
    """Find sentences in text, plain or in hex, also split over lines."""
    streams, hex_lines = _Streams(), HexLines()
    for line in text.splitlines():
        sent = None
        if bool(_SENT.search(line)) != bool(_RECEIVED.search(line)):
            sent = bool(_SENT.search(line))
        if (dumped := hex_lines.of_dump(line)) is not None:
            # Its text beside the bytes may have a part of a sentence.
            streams.feed(sent, 1, dumped)
            continue
        before = len(streams.found)
        for plain in _SENTENCE.finditer(line.encode("latin-1")):
            streams.found.append(Captured(plain[0], sent))
        if len(streams.found) == before:
            for run in hex_lines.read(line):
                streams.feed(sent, 1, run)
    return streams.found
