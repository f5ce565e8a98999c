"""Split messages: which parts belong together, and the room that they have."""

import itertools
import random
from collections.abc import Iterable
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt808, reassembly
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.reassembly import PartStore, Reassembler
from tests.vectors import DEVICE, binary, location
from tests.vectors.lines import Line, case, one_test_each, sent

BODY = b"\x00\x06\x01" + (len(location()).to_bytes(2, "big") + location()) * 6
HEARTBEAT = 0x0002


def pieces(count: int, body: bytes = BODY) -> list[bytes]:
    """A body in so many pieces."""
    size = -(-len(body) // count)
    return [body[at : at + size] for at in range(0, size * count, size)]


def part_of(
    body: bytes, serial: int, packets: int, packet: int, wire: bytes = DEVICE, message_id: int = 0x0704
) -> bytes:
    """One part of a message of any device."""
    head = message_id.to_bytes(2, "big") + (len(body) | jt808.BIT_SPLIT).to_bytes(2, "big") + wire
    numbers = b"".join((number & 0xFFFF).to_bytes(2, "big") for number in (serial, packets, packet))
    return jt808.pack(head + numbers + body)


def message_parts(
    serials: list[int], body: bytes = BODY, wire: bytes = DEVICE, message_id: int = 0x0704
) -> list[bytes]:
    """A message, one part under each serial."""
    count = len(serials)
    cut = zip(serials, pieces(count, body), strict=True)
    return [
        part_of(piece, serial, count, number, wire, message_id)
        for number, (serial, piece) in enumerate(cut, 1)
    ]


def device(number: int) -> bytes:
    """The id of some device."""
    return bytes.fromhex(str(700_000_000_000 + number))


def heard(decoder: Decoder, raws: Iterable[bytes], now: float = 0.0) -> list[Message]:
    """What comes of frames."""
    found: list[Message] = []
    for raw in raws:
        (frame,) = Framer().feed_datagram(raw)
        decoded = decoder.decode(frame, now)
        assert decoded is None or isinstance(decoded, Message), decoded
        found += [] if decoded is None else [decoded]
    return found


def whole(messages: list[Message]) -> list[Message]:
    """Those that are stored locations, all of which have to be complete."""
    found = [message for message in messages if message.message_id == 0x0704]
    for message in found:
        assert [kind for kind, _ in message.events] == ["location"] * 6, message.events
    return found


class Place:
    """Where datagrams come from, as the gateway has it: a decoder per address, anew for each datagram."""

    def __init__(self, store: PartStore, peer: str) -> None:
        self.store, self.peer = store, peer

    def hear(self, *raws: bytes, now: float = 0.0) -> list[Message]:
        return heard(Decoder(parts=self.store.address(self.peer)), raws, now)


@one_test_each([case("F6a"), case("F6b")])
class CaseTests(SynchronousTestCase):
    """Ways of numbering parts that other servers have met."""

    def check(self, line: Line) -> None:
        decoder = Decoder()
        messages = [
            message
            for data in sent(line)
            for frame in Framer().feed(data)
            if isinstance(message := decoder.decode(frame, 0.0), Message)
        ]
        (found,) = whole(messages)
        assert found.answer is not None
        self.assertEqual(found.answer.count(b"\x7e\x80\x01"), 3)
        self.assertEqual(len(decoder.parts.store), 0)


class TogetherTests(SynchronousTestCase):
    """Which parts are one message."""

    def over_both(self, raws: list[bytes], messages: int = 1, beside: int = 0) -> None:
        """Over a connection and in datagrams it comes to the same."""
        for decoder in (Decoder(), Decoder(parts=PartStore().address("192.0.2.7:1"))):
            found = heard(decoder, raws)
            self.assertEqual(len(whole(found)), messages)
            self.assertEqual(len(found), messages + beside)

    def test_others_between(self) -> None:
        """Other messages may have serials between those of the parts, one or several, in any place."""
        for serials in ([11, 12, 14], [11, 13, 14], [11, 13, 15, 16], [0xFFFE, 0, 1], [0xFFFF, 1, 2]):
            parts = message_parts(serials)
            beats = [
                binary(HEARTBEAT, serial=serial & 0xFFFF) for serial in range(serials[0], serials[0] + 2)
            ]
            self.over_both([parts[0], *beats, *parts[1:]], beside=2)

    def test_any_command(self) -> None:
        """Parts with gaps between their serials may come in any order, and more than once."""
        parts = message_parts([11, 12, 14, 15])
        for command in itertools.permutations(parts):
            self.over_both([command[0], *command])

    def test_one_serial(self) -> None:
        """All parts may have one serial, and come in any order."""
        for command in itertools.permutations(message_parts([7, 7, 7])):
            self.over_both(list(command))

    def test_many_between_over_a_connection(self) -> None:
        """Over a connection nothing is lost, so there may be many."""
        parts = message_parts([11, 150])
        self.assertEqual(len(whole(heard(Decoder(), parts))), 1)

    def test_next_message_is_another(self) -> None:
        """The end of one message and the beginning of the next may be lost: what is left is no message."""
        for count in (2, 3, 5):
            for lost in range(1, count):
                first = message_parts(list(range(1, count + 1)))
                second = message_parts(list(range(count + 1, 2 * count + 1)), BODY[:-1] + b"\x01")
                place = Place(PartStore(), "192.0.2.7:1")
                left = [*first[:-lost], *second[count - lost :]]
                self.assertEqual(place.hear(*left), [])
                # What the lock sends again is whole.
                (found,) = place.hear(*first)
                self.assertEqual(found.wire, b"".join(first))
                (found,) = place.hear(*second)
                self.assertEqual(found.wire, b"".join(second))

    def test_nearest(self) -> None:
        """Of two unfinished messages a part belongs to the one whose serials are nearest."""
        first, second = message_parts([1, 2, 3]), message_parts([4, 5, 6], BODY[:-1] + b"\x01")
        decoder = Decoder()
        raws = [first[0], first[1], second[0], second[1], second[2], first[2]]
        self.assertEqual([one.wire for one in heard(decoder, raws)], [b"".join(second), b"".join(first)])

    def test_begun_anew(self) -> None:
        """A lock that has started anew uses its serials again: what it said before is no part of that."""
        old, new = message_parts([1, 2, 3]), message_parts([1, 2, 3], BODY[:3] + BODY[35:] + BODY[3:35])
        self.assertNotEqual(old[0], new[0])
        place = Place(PartStore(), "192.0.2.7:1")
        place.hear(*old[:2])
        (found,) = place.hear(*new)
        self.assertEqual(found.wire, b"".join(new))
        decoder = Decoder()
        (found,) = heard(decoder, [*old[:2], *new])
        self.assertEqual(found.wire, b"".join(new))

    def test_several_addresses(self) -> None:
        """The parts of one message may come from several addresses."""
        parts = message_parts([1, 2, 4, 5, 6])
        for command in itertools.islice(itertools.permutations(parts), 40):
            store = PartStore()
            found = [
                message
                for number, raw in enumerate(command)
                for message in Place(store, f"192.0.2.{number}:1").hear(raw)
            ]
            self.assertEqual(len(whole(found)), 1)
            self.assertEqual((len(store), store.size), (0, 0))

    def test_own_parts_first(self) -> None:
        """Somebody else's parts under the same device and serials don't get into what a lock sends whole."""
        parts, forged = message_parts([1, 2, 3]), message_parts([1, 2, 3], bytes(len(BODY)))
        for count in (1, 2):
            store = PartStore()
            stranger, lock = Place(store, "[2001:db8::1]:1"), Place(store, "192.0.2.7:1")
            stranger.hear(*forged[:count])
            found = lock.hear(*parts[:2]) + stranger.hear(*forged[:1]) + lock.hear(*parts[2:])
            self.assertEqual(found[-1].wire, b"".join(parts))

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_nothing_mixed(self, data: st.DataObject) -> None:
        """Whatever is lost, doubled and out of order, what comes together is a message that was sent."""
        raws: list[bytes] = []
        sent_whole: list[bytes] = []
        serial = data.draw(st.integers(0, 0xFFFF))
        for number in range(data.draw(st.integers(1, 4))):
            count = data.draw(st.integers(2, 4))
            serials = []
            for _ in range(count):
                serials.append(serial & 0xFFFF)
                serial += 1
            parts = message_parts(serials, BODY[:-1] + bytes([number]))
            raws += parts
            sent_whole.append(b"".join(parts))
        kept = data.draw(st.lists(st.sampled_from(raws), max_size=30))
        for message in Place(PartStore(), "192.0.2.7:1").hear(*kept):
            self.assertIn(message.wire, sent_whole)


class RoomTests(SynchronousTestCase):
    """The room that unfinished messages have."""

    def test_one_device(self) -> None:
        """One device on one connection: so many messages, so many bytes; the oldest goes first."""
        decoder = Decoder()
        for number in range(50):
            heard(decoder, [part_of(b"abc", number * 10, 3, 1)])
        self.assertEqual(len(decoder.parts.store), reassembly.MAX_MESSAGES)
        self.assertEqual(decoder.parts.dropped, 50 - reassembly.MAX_MESSAGES)
        for size in (1000, 0):
            decoder = Decoder()
            for number in range(1, 400):
                heard(decoder, [part_of(bytes(size), number, 65535, number)])
                self.assertTrue(decoder.parts.store.size <= reassembly.MAX_BYTES)
            self.assertTrue(decoder.parts.dropped > 0)
        self.assertEqual(len(heard(decoder, [binary(HEARTBEAT)])), 1)

    def test_one_connection(self) -> None:
        """Many devices on one connection have what one has."""
        decoder = Decoder()
        for number in range(2000):
            heard(decoder, [part_of(bytes(500), 1, 4, 1, device(number))])
            self.assertTrue(decoder.parts.store.size <= reassembly.MAX_BYTES)

    def test_all_together(self) -> None:
        """All connections and addresses share one limit."""
        store = PartStore(200_000)
        for number in range(100):
            decoder = Decoder(parts=Reassembler(store))
            for serial in range(1, 40):
                heard(decoder, [part_of(bytes(1000), serial, 60, serial, device(number))])
                self.assertTrue(store.size <= 200_000)
            Place(store, f"192.0.2.7:{number}").hear(part_of(bytes(1000), 1, 60, 1, device(1000 + number)))
            self.assertTrue(store.size <= 200_000)
        self.assertTrue(store.dropped > 0)

    def flood(self, store: PartStore, peers: Iterable[str], count: int, wires: Any = device) -> None:
        """Made-up parts."""
        for number, peer in zip(range(count), itertools.cycle(peers), strict=False):
            Place(store, peer).hear(part_of(bytes(900), number, 9, 1, wires(number)))

    def fleet(self, store: PartStore, peers: list[str], disturb: Any) -> None:
        """Locks send a message each, part by part and all at once, and something comes in between."""
        sets = [message_parts([1, 2, 3, 4], wire=device(900_000 + number)) for number in range(len(peers))]
        answered = 0
        for at in range(4):
            for parts, peer in zip(sets, peers, strict=True):
                disturb()
                answered += len(whole(Place(store, peer).hear(parts[at])))
        self.assertEqual(answered, len(peers))

    def test_one_sender_starves_nobody(self) -> None:
        """Whoever holds the most has to give: made-up parts of one sender keep out only his own."""
        store = PartStore(1 << 20)
        self.flood(store, ["198.51.100.1:9"], 2000)
        disturb = partial(
            self.flood, store, ["198.51.100.1:9"], 20, lambda _: device(random.randrange(99_999))
        )
        self.fleet(store, [f"192.0.2.7:{number}" for number in range(30)], disturb)
        # IPv6, and all locks behind one relay.
        self.fleet(store, [f"[2001:db8::7]:{number}" for number in range(30)], disturb)
        self.fleet(store, ["192.0.2.8:1"] * 30, disturb)
        self.assertTrue(store.dropped > 0)

    def test_senders_in_their_name(self) -> None:
        """Made-up parts under a lock's own id, from another address, keep it from nothing."""
        store = PartStore(1 << 20)
        self.fleet(
            store,
            ["192.0.2.7:1"] * 5,
            lambda: self.flood(store, ["198.51.100.1:9"], 20, lambda number: device(900_000 + number % 5)),
        )

    def test_connections_starve_nobody(self) -> None:
        """Nor do connections full of parts."""
        store = PartStore(1 << 20)
        for number in range(40):
            decoder = Decoder(parts=Reassembler(store))
            heard(decoder, [part_of(bytes(1000), n, 60, n, device(number)) for n in range(1, 40)])
        self.fleet(store, ["192.0.2.7:1"] * 5, lambda: None)

    def test_timeout(self) -> None:
        """What was waiting too long is let go, also when nobody says anything more."""
        store = PartStore()
        heard(Decoder(parts=Reassembler(store)), [part_of(b"abc", 1, 2, 1)])
        Place(store, "192.0.2.7:1").hear(part_of(b"abc", 1, 2, 1))
        store.expire(reassembly.TIMEOUT)
        self.assertEqual(len(store), 2)
        store.expire(reassembly.TIMEOUT + 0.1)
        self.assertEqual((len(store), store.size, store.dropped), (0, 0, 2))
        self.assertEqual(store._addresses, {})

    def test_connection_ends(self) -> None:
        """A connection that ends gives back what it held; an address stays, since locks change theirs."""
        store = PartStore()
        connection, address = Reassembler(store), store.address("192.0.2.7:1")
        for parts in (connection, address):
            heard(Decoder(parts=parts), [part_of(b"abc", 1, 2, 1)])
            parts.close()
        self.assertEqual(len(store), 1)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.integers(0, 2),
                st.integers(0, 9),
                st.integers(1, 3),
                st.integers(0, 900),
            ),
            max_size=60,
        )
    )
    def test_books(self, steps: list[tuple[int, int, int, int, int]]) -> None:
        """However parts come, what the store counts is what it holds, and nothing is left of what is gone."""
        store = PartStore(20_000)
        connections = [Reassembler(store) for _ in range(2)]
        for place, who, serial, packet, size in steps:
            parts = connections[place] if place < 2 else store.address(f"192.0.2.{place}:1")
            heard(Decoder(parts=parts), [part_of(bytes(size), serial, 3, packet, device(who))])
            self.assertEqual(store.size, sum(message.size for message in store._messages))
            self.assertTrue(store.size <= 20_000)
        for one in connections:
            one.close()
        store.expire(reassembly.TIMEOUT + 1)
        self.assertEqual((store.size, store._messages, store._holders), (0, {}, {}))
        self.assertEqual((store._addresses, store._datagrams), ({}, {}))
