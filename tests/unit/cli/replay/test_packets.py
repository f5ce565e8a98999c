"""Captures of packets, built here with dpkt's own writers, and by hand where it has none."""

import io
import struct
from collections.abc import Sequence

import dpkt
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.replay import pcap as packets
from jt709c_gateway.cli.replay.steps import CaptureError, Chunk, End, LeftOut, Step

AT = 1795342500.25
FRAME = bytes.fromhex("7e0002000079430801067900017e")
LOCK, GATEWAY = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 9])
LOCK6, GATEWAY6 = b"\xfd" + bytes(14) + b"\x01", b"\xfd" + bytes(14) + b"\x09"
SYN, ACK, FIN, RST = 2, 16, 1, 4


def tcp(data: bytes = b"", seq: int = 1, flags: int = ACK, back: bool = False, port: int = 8888) -> bytes:
    """An IPv4 packet with a segment from the lock, or `back` from the gateway."""
    ports = {"sport": 4000, "dport": port} if not back else {"sport": port, "dport": 4000}
    segment = dpkt.tcp.TCP(seq=seq, flags=flags, data=data, **ports)
    return ip(segment, dpkt.ip.IP_PROTO_TCP, back)


def udp(data: bytes, sport: int = 4001) -> bytes:
    """An IPv4 packet with a datagram from a lock."""
    return ip(dpkt.udp.UDP(sport=sport, dport=8888, ulen=8 + len(data), data=data), dpkt.ip.IP_PROTO_UDP)


def ip(payload: object, protocol: int, back: bool = False) -> bytes:
    ends = (GATEWAY, LOCK) if back else (LOCK, GATEWAY)
    return bytes(dpkt.ip.IP(src=ends[0], dst=ends[1], p=protocol, data=payload))


def ip6(payload: bytes, protocol: int) -> bytes:
    return bytes(dpkt.ip6.IP6(src=LOCK6, dst=GATEWAY6, nxt=protocol, plen=len(payload), data=payload))


def ethernet(packet: bytes) -> bytes:
    """With a header, and padded as a card does."""
    kind = 0x86DD if packet[0] >= 0x60 else 0x0800
    return (bytes(12) + struct.pack(">H", kind) + packet).ljust(60, b"\x00")


def vlan(packet: bytes) -> bytes:
    return bytes(12) + bytes.fromhex("8100000a0800") + packet


def pcap(records: Sequence[bytes], link: int = 1, magic: str = "<I", nano: bool = False) -> bytes:
    """A pcap file, a packet a second."""
    command = magic[0]
    head = struct.pack(f"{command}IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)
    fraction = 250_000_000 if nano else 250_000
    for number, record in enumerate(records):
        lengths = (len(record), len(record))
        head += struct.pack(f"{command}IIII", int(AT) + number, fraction, *lengths) + record
    return head


def read(data: bytes, *ports: int, left_out: LeftOut | None = None) -> list[Step]:
    """The steps of a capture."""
    file = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    return list(packets.read(file, "x.pcap", frozenset(ports or (8888,)), left_out or LeftOut()))


CONVERSATION = [
    tcp(flags=SYN, seq=0),
    tcp(flags=SYN | ACK, seq=0, back=True),
    tcp(FRAME[:5], seq=1),
    tcp(b"answer", back=True),
    tcp(FRAME[5:], seq=6),
    tcp(seq=1 + len(FRAME), flags=FIN | ACK),
]
NAME = "10.0.0.1:4000"
EXPECTED = [
    Chunk(NAME, FRAME[:5], AT + 2, "tcp"),
    Chunk(NAME, FRAME[5:], AT + 4, "tcp"),
    End(NAME, AT + 5),
]


class FormatTests(SynchronousTestCase):
    def test_links(self) -> None:
        """What was sent to the port, from every kind of capture, and nothing of the answers."""
        cooked = struct.pack(">HHH8sH", 0, 1, 6, bytes(8), 0x0800)
        cooked2 = struct.pack(">HHiHBB8s", 0x0800, 0, 1, 1, 0, 6, bytes(8))
        for link, wrap in (
            (1, ethernet),
            (1, vlan),
            (113, lambda packet: cooked + packet),
            (276, lambda packet: cooked2 + packet),
            (101, bytes),
            (12, bytes),
            (228, bytes),
            (0, lambda packet: struct.pack("<I", 2) + packet),
        ):
            self.assertEqual(read(pcap([wrap(one) for one in CONVERSATION], link)), EXPECTED, link)

    def test_byte_orders_and_times(self) -> None:
        records = [ethernet(one) for one in CONVERSATION]
        for command in "<>":
            for nano in (False, True):
                self.assertEqual(read(pcap(records, magic=command, nano=nano)), EXPECTED)

    def test_ipv6(self) -> None:
        segment = bytes(dpkt.tcp.TCP(sport=4000, dport=8888, seq=1, flags=ACK, data=FRAME))
        datagram = bytes(dpkt.udp.UDP(sport=4001, dport=8888, ulen=8 + len(FRAME), data=FRAME))
        options = bytes([17, 0, 1, 4, 0, 0, 0, 0])
        steps = read(pcap([ethernet(ip6(segment, 6)), ethernet(ip6(options + datagram, 60))]))
        self.assertEqual(
            [(step.connection, step.data) for step in steps if isinstance(step, Chunk)],
            [("[fd00::1]:4000", FRAME), ("udp [fd00::1]:4001", FRAME)],
        )

    def test_udp(self) -> None:
        """Datagrams as they are, those of each address a connection."""
        steps = read(pcap([ethernet(udp(FRAME)), ethernet(udp(b"(x)", 4002)), ethernet(udp(FRAME))]))
        self.assertEqual(
            steps,
            [
                Chunk("udp 10.0.0.1:4001", FRAME, AT, "udp"),
                Chunk("udp 10.0.0.1:4002", b"(x)", AT + 1, "udp"),
                Chunk("udp 10.0.0.1:4001", FRAME, AT + 2, "udp"),
            ],
        )

    def test_reset_by_the_gateway(self) -> None:
        steps = read(pcap([ethernet(tcp(FRAME)), ethernet(tcp(flags=RST, back=True)), ethernet(udp(FRAME))]))
        self.assertEqual(steps[1], End(NAME, AT + 1))

    def test_ports(self) -> None:
        """Another port, or several; a file without any says what there is instead."""
        records = pcap([ethernet(tcp(flags=SYN, port=7000)), ethernet(tcp(FRAME, seq=2, port=7000))])
        self.assertEqual(read(records, 8888, 7000)[0].connection, NAME)
        error = self.assertRaises(CaptureError, read, records)
        self.assertEqual(str(error), "x.pcap: nothing was sent to port 8888 (--port); something was for 7000")
        self.assertIn("no connection begins in it", str(self.assertRaises(CaptureError, read, pcap([]))))


def block(kind: int, body: bytes, command: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{command}I", 12 + len(body))
    return struct.pack(f"{command}I", kind) + length + body + length


def section(command: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{command}IHHq", 0x1A2B3C4D, 1, 0, -1), command)


def interface(link: int, options: bytes = b"", command: str = "<") -> bytes:
    return block(1, struct.pack(f"{command}HHI", link, 0, 0) + options, command)


def enhanced(number: int, ticks: int, data: bytes, command: str = "<") -> bytes:
    head = struct.pack(f"{command}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, head + data, command)


class PcapngTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        """Each packet is of its interface's kind, with its interface's clock, in both byte commands."""
        for command in "<>":
            nanoseconds = struct.pack(f"{command}HHB3xHH", 9, 1, 9, 0, 0)
            file = (
                section(command)
                + block(5, b"statistics", command)
                + interface(1, command=command)
                + interface(101, nanoseconds, command)
                + enhanced(0, int(AT * 1e6), ethernet(udp(b"(1)")), command)
                + enhanced(1, int(AT * 1e6) * 1000, udp(b"(2)"), command)
            )
            steps = read(file + file)
            self.assertEqual([step.data for step in steps if isinstance(step, Chunk)], [b"(1)", b"(2)"] * 2)
            for step in steps:
                self.assertAlmostEqual(step.at or 0, AT, places=3)

    def test_dpkt_writer(self) -> None:
        """What the library itself writes is read."""
        file = io.BytesIO()
        writer = dpkt.pcapng.Writer(file)
        for number, one in enumerate(CONVERSATION):
            writer.writepkt(ethernet(one), AT + number)
        steps = read(file.getvalue())
        self.assertEqual([type(step) for step in steps], [Chunk, Chunk, End])
        self.assertAlmostEqual(steps[0].at or 0, AT + 2, places=3)

    def test_broken(self) -> None:
        good = section() + interface(1) + enhanced(0, 0, ethernet(udp(FRAME)))
        for file, word in (
            (good[:-3], "packet 1: the file ends in the middle of it"),
            (good + struct.pack("<II", 6, 0xFFFFFFF0), "packet 2: a record of"),
            (good + struct.pack("<II", 6, 8), "packet 2: a block of 8 bytes"),
            (good + enhanced(7, 0, b"x"), "packet 2: a block that can't be read"),
            (good + block(6, b""), "packet 2: a block that can't be read"),
        ):
            self.assertIn(word, str(self.assertRaises(CaptureError, read, file)))


class OddPackets(SynchronousTestCase):
    def test_left_out(self) -> None:
        """Other protocols are passed over; fragments, and what can't be read, are counted."""
        fragment = bytearray(udp(FRAME))
        fragment[6] |= 0x20
        left_out = LeftOut()
        arp = bytes(12) + bytes.fromhex("0806") + bytes(28)
        icmp = ethernet(bytes(dpkt.ip.IP(src=LOCK, dst=GATEWAY, p=1, data=dpkt.icmp.ICMP(data=b"xxxxxxxx"))))
        records = [arp, icmp, ethernet(bytes(fragment)), ethernet(udp(FRAME)), b"\x00"]
        steps = read(pcap(records), left_out=left_out)
        self.assertEqual([step.data for step in steps if isinstance(step, Chunk)], [FRAME])
        self.assertEqual((left_out.fragments, left_out.unreadable), (1, 1))

    def test_cut_off(self) -> None:
        """A packet of which the sniffer has kept only the beginning is named."""
        for packet in (tcp(FRAME), udp(FRAME)):
            file = pcap([ethernet(tcp(seq=9, flags=SYN)), (bytes(12) + b"\x08\x00" + packet)[:-4]])
            error = str(self.assertRaises(CaptureError, read, file))
            self.assertIn("x.pcap, packet 2: cut off by the sniffer after", error)

    def test_broken_files(self) -> None:
        good = pcap([ethernet(udp(FRAME))])
        for file, word in (
            (good[:-1], "packet 1: the file ends in the middle of it"),
            (good[:30], "packet 1: the file ends in the middle of it"),
            (good[:40], "packet 1: the file ends in the middle of it"),
            (good[:10], "the head of this pcap file is broken"),
            (good + struct.pack("<IIII", 0, 0, 0x7FFFFFFF, 0), "packet 2: a record of 2147483647 bytes"),
            (pcap([b"x"], link=147), "packet 1: link type 147 is not known"),
        ):
            self.assertIn(word, str(self.assertRaises(CaptureError, read, file)), len(file))
