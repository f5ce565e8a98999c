"""What virtual locks encode is what the gateway decodes: the pairs that have no such test elsewhere.

Locations (jt709, jt705), `$` records and frames, sub-lock payloads and escapes have theirs in the modules of
their dialects and in test_protocol_properties.
"""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import (
    alarms,
    answers,
    bcd,
    jt705,
    jt808,
    jt808_messages,
    lock_event_item,
    packed_position,
    pnn,
    sentences,
    sublock,
)
from jt709c_gateway.protocol.events import (
    Attributes,
    Heartbeat,
    Location,
    LockEvent,
    Password,
    Reply,
    TimeRequest,
)
from jt709c_gateway.protocol.framing import BinaryFrame, Framer, SentenceFrame
from jt709c_gateway.protocol.terminal_attributes import encode as encode_attributes
from tests.unit.protocol.test_dialect_jt705 import body as jt705_body
from tests.unit.protocol.test_dialect_jt705 import degrees, moments, places
from tests.unit.protocol.test_properties import wires
from tests.vectors import DEVICE, fact, location, message
from tests.vectors import binary as frame

bytes_ = st.integers(0, 255)
words = st.integers(0, 0xFFFF)
passwords = st.text("0123456789abcXYZ#-!", min_size=6, max_size=6)
masters = st.text("0123456789", min_size=1, max_size=10)


def canonical(digits: str) -> str:
    return digits.lstrip("0") or "0"


class BinaryTests(SynchronousTestCase):
    """`7E` messages."""

    @given(st.integers(0, 100), st.integers(0, 254), bytes_)
    def test_heartbeat(self, battery: int, signal: int, status: int) -> None:
        """0x0002."""
        found = fact(frame(jt808.HEARTBEAT, jt808_messages.encode_heartbeat(battery, signal, status)))
        self.assertEqual(found, Heartbeat(battery, signal, status))

    @given(words, words, st.integers(0, 3))
    def test_terminal_answer(self, serial: int, message_id: int, result: int) -> None:
        """0x0001."""
        body = jt808_messages.encode_terminal_answer(serial, message_id, result)
        found = fact(frame(jt808.TERMINAL_ANSWER, body))
        self.assertEqual(
            (found.answered_serial, found.answered_id, found.result), (serial, f"{message_id:04x}", result)
        )

    @given(words, st.dictionaries(st.integers(0, 2**32 - 1), st.binary(max_size=20), max_size=30))
    def test_parameters(self, serial: int, parameters: dict[int, bytes]) -> None:
        """0x0104; passwords among them are masked."""
        body = jt808_messages.encode_parameters(serial, parameters)
        found = fact(frame(jt808.PARAMETERS, body))
        expected = {
            f"{number:04x}": (b"*" * len(value) if number in jt808.SECRET_PARAMETERS else value).hex()
            for number, value in parameters.items()
        }
        # What looks like a lock event with a password is masked, also where an id is taken for its item.
        if lock_event_item.ITEM not in body:
            self.assertEqual(found.parameters, expected)
        self.assertEqual((found.answered_serial, len(found.parameters)), (serial, len(parameters)))

    @given(
        words,
        *(st.text("ABCxyz012", max_size=length) for length in (5, 20, 7)),
        st.text("0123456789", min_size=20, max_size=20),
        *(st.text("ABCxyz_.012", max_size=30) for _ in range(2)),
    )
    def test_attributes(
        self, kind: int, maker: str, model: str, terminal: str, iccid: str, hardware: str, firmware: str
    ) -> None:
        """0x0107."""
        written = Attributes(kind, maker, model, terminal, iccid, hardware, firmware)
        decoded = message(frame(jt808.ATTRIBUTES, encode_attributes(written)))
        self.assertEqual(decoded.events, [("attributes", written)])
        self.assertEqual(decoded.firmware, firmware or None)

    @given(st.lists(st.tuples(moments, degrees), min_size=1, max_size=10))
    def test_stored_locations(self, written: list[tuple[datetime, float]]) -> None:
        """0x0704."""
        bodies = [location(time=time, latitude=latitude) for time, latitude in written]
        body = jt808_messages.encode_stored(bodies)
        self.assertEqual(len(body), 3 + sum(map(jt808_messages.stored_length, bodies)))
        decoded = message(frame(jt808.STORED_LOCATIONS, body))
        found = [(data.time, data.latitude) for _, data in decoded.events if isinstance(data, Location)]
        self.assertEqual((found, decoded.stored), (written, True))

    @given(words, degrees)
    def test_location_answer(self, serial: int, latitude: float) -> None:
        """0x0201."""
        body = jt808_messages.encode_location_answer(serial, location(latitude=latitude))
        (_, place), (_, reply) = message(frame(jt808.LOCATION_ANSWER, body)).events
        assert isinstance(place, Location) and isinstance(reply, Reply)
        self.assertEqual((place.latitude, reply.answered_serial), (latitude, serial))

    @given(
        st.sampled_from([jt808.JT705_LOCATION, jt808.JT705_STORED]),
        wires.filter(lambda wire: len(wire) == 6),
        bytes_,
        st.booleans(),
        degrees,
    )
    def test_jt705(self, message_id: int, wire: bytes, serial: int, asked: bool, latitude: float) -> None:
        """0x5501 and 0x5502, through the framer; the answer to it is read by the lock again."""
        raw = jt808.encode_jt705(message_id, wire, serial, jt705_body(latitude=latitude), answer_wanted=asked)
        self.assertEqual(Framer().feed(raw), [BinaryFrame(raw, jt808.unpack(raw))])
        decoded = message(raw)
        self.assertEqual((decoded.message_id, decoded.serial, decoded.dialect), (message_id, serial, "jt705"))
        self.assertEqual((decoded.identity_wire, decoded.stored), (wire, message_id == jt808.JT705_STORED))
        self.assertEqual(decoded.events, [("location", jt705.decode(jt705_body(latitude=latitude))[0])])
        if not asked:
            self.assertIsNone(decoded.answer)
            return
        assert decoded.answer is not None
        payload = jt808.unpack(decoded.answer)
        self.assertEqual(answers.parse_jt705_answer(payload), (wire, message_id, 0))

    @given(st.binary(max_size=20))
    def test_no_jt705_answer(self, payload: bytes) -> None:
        """Other frames are none."""
        found = answers.parse_jt705_answer(payload)
        self.assertEqual(found is not None, payload[:4] == b"\x44\x01\x00\x03" and len(payload) == 14)

    def test_too_long(self) -> None:
        """A body that the header has no room for is refused."""
        self.assertRaises(ValueError, jt808.encode_jt705, 0x5501, DEVICE, 1, bytes(1024), answer_wanted=False)


class LockEventTests(SynchronousTestCase):
    """Item 0x0B."""

    def read(self, value: bytes) -> LockEvent:
        found = lock_event_item.decode(value, None, None, None)
        assert found is not None
        return found

    @given(st.sampled_from(sorted(lock_event_item.PASSWORD_WITH_RESULT)), passwords, bytes_)
    def test_password(self, code: int, password: str, result: int) -> None:
        """A password with its result."""
        value = lock_event_item.encode(code, password=password, result=result)
        self.assertEqual(lock_event_item.password_span(value), (1, 7))
        self.assertEqual(value[1:7].decode(), password)
        found = self.read(value)
        self.assertEqual((found.code, found.method, found.result), (code, "password", result))
        self.assertEqual(found.action, "refused" if result == 0xFF else "unlocked")

    @given(st.sampled_from(sorted(lock_event_item.PASSWORD_REFUSED)), st.text(max_size=12))
    def test_refused_password(self, code: int, typed: str) -> None:
        """Whatever was typed takes six bytes."""
        value = lock_event_item.encode(code, password=typed)
        self.assertEqual(len(value), 7)
        self.assertEqual((self.read(value).code, self.read(value).action), (code, "refused"))

    @given(st.integers(0, 2**32 - 1), st.none() | bytes_)
    def test_card(self, card: int, result: int | None) -> None:
        """A card, with a result or without."""
        found = self.read(lock_event_item.encode(lock_event_item.CARD_WITH_RESULT, card=card, result=result))
        self.assertEqual(found.card, f"{card:010d}" if card else None)
        self.assertEqual((found.action, found.result), ("refused" if result == 255 else "unlocked", result))
        for code in lock_event_item.CARD_REFUSED:
            self.assertEqual(self.read(lock_event_item.encode(code, card=card)).action, "refused")


class SentenceTests(SynchronousTestCase):
    """Both forms of sentences."""

    @given(masters)
    def test_simple(self, device: str) -> None:
        """`@JT` and `P22,2`."""
        for raw, expected in (
            (pnn.heartbeat(device), Heartbeat()),
            (pnn.time_request(device), TimeRequest()),
        ):
            self.assertEqual(raw[1:11], device.zfill(10).encode())
            self.assertEqual((message(raw).device, fact(raw)), (canonical(device), expected))

    @given(masters, st.text("0123456789", min_size=1, max_size=12))
    def test_dynamic_password(self, device: str, password: str) -> None:
        """`P52,2`, and that it is told back."""
        decoded = message(pnn.dynamic_password(device, password))
        self.assertEqual((decoded.events, decoded.secret), ([("password", Password())], password))
        assert decoded.answer is not None
        self.assertEqual(pnn.parse_down(decoded.answer), ("P52", ("2", password)))

    @given(
        masters, st.sampled_from(["P24", "P41", "P59"]), st.lists(st.text("abc019.%", max_size=8), max_size=5)
    )
    def test_reply(self, device: str, word: str, arguments: list[str]) -> None:
        """Any other word."""
        decoded = message(pnn.sentence(device, word, *arguments))
        self.assertEqual(
            (decoded.device, decoded.events), (canonical(device), [("reply", Reply(word, tuple(arguments)))])
        )

    @given(
        st.fixed_dictionaries(
            places
            | {
                "speed_kmh": bytes_,
                "course_deg": st.integers(0, 359),
                "odometer_km": st.integers(0, 2**32 - 1),
            }
            | {"source": st.integers(0, 9), "verification": bytes_, "serial": bytes_}
            | {"wrong_tries": bytes_, "password_ok": st.booleans()}
            | {"card": st.none() | st.text("0123456789", min_size=10, max_size=10)}
        ),
        masters,
    )
    def test_lock_report(self, written: dict[str, Any], device: str) -> None:
        """P45, through the framer, and the serial that its answer names."""
        raw = pnn.lock_report(device, **written)
        self.assertEqual(Framer().feed(raw), [SentenceFrame(raw)])
        decoded = message(raw)
        self.assertEqual((decoded.device, decoded.serial), (canonical(device), written["serial"]))
        assert decoded.answer is not None
        self.assertEqual(pnn.parse_down(decoded.answer), ("P69", ("0", str(written["serial"]))))
        found = decoded.events[0][1]
        assert isinstance(found, LockEvent)
        self.assertEqual(
            (found.time, found.code, found.result),
            (written["time"], written["source"], written["verification"]),
        )
        place = written["latitude"], written["longitude"]
        self.assertEqual(
            (found.latitude, found.longitude), place if written["fix"] or any(place) else (None, None)
        )
        card = written["card"]
        self.assertEqual(found.card, card if card and card.strip("0") else None)
        self.assertIs(found.peripheral, UNSET)

    @given(
        st.text("0123456789", min_size=1, max_size=12),
        st.integers(0, 999),
        st.text("ABCXYZ", min_size=1, max_size=8),
        st.lists(st.text("abc019.%", max_size=8), max_size=5),
    )
    def test_grouped(self, device: str, serial: int, group: str, parameters: list[str]) -> None:
        """The grouped form."""
        found = sentences.parse(sentences.grouped(device, serial, group, *parameters))
        self.assertEqual((found.device, found.serial, found.word), (canonical(device), serial, group))
        self.assertEqual((found.arguments, found.grouped), (tuple(parameters), True))

    @given(st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 31), timezones=st.just(UTC)))
    def test_times(self, moment: datetime) -> None:
        """What answers a question for the time, in both forms."""
        word, (digits,) = pnn.parse_down(pnn.time_answer(moment))
        expected = moment.replace(microsecond=0)
        self.assertEqual((word, bcd.time_dmy(bytes.fromhex(digits))), ("P22", expected))
        answer = sentences.parse(sentences.time_answer(b"(1,1,007,BASE,2,TIME)", moment))
        self.assertEqual((answer.serial, answer.arguments[0]), (7, "2"))
        self.assertEqual(datetime.strptime(answer.arguments[1] + "Z", "%Y%m%d%H%M%S%z"), expected)


class SubLockTests(SynchronousTestCase):
    """WLNET,5."""

    @given(
        masters,
        st.integers(0, 999),
        st.fixed_dictionaries(places),
        st.one_of(
            st.tuples(st.just(sublock.LOCK_JT709), st.binary(min_size=11, max_size=11)),
            st.tuples(st.just(sublock.LOCK_JT709), st.binary(min_size=7, max_size=7)),
            st.tuples(st.just(sublock.SENSOR_JT126), st.binary(min_size=6, max_size=6)),
            st.tuples(st.just(sublock.VALVE_JT802), st.binary(max_size=20)),
        ),
        st.binary(min_size=5, max_size=5),
    )
    def test_sentence(
        self, master: str, serial: int, place: dict[str, Any], tail: tuple[int, bytes], identity: bytes
    ) -> None:
        """A whole sentence of any kind of sub-lock, whatever bytes had to be escaped."""
        kind, rest = tail
        payload = sublock.encode(
            master=packed_position.encode(**place),
            time=place["time"], peripheral=identity.hex(), serial=0x28,
            battery_volts=3.0, battery_percent=0x29, rssi_dbm=-0x3D, kind=kind, rest=rest,
        )  # fmt: skip
        raw = sublock.encode_report(master.zfill(10), serial, payload)
        self.assertEqual(Framer().feed(raw), [SentenceFrame(raw)])
        decoded = message(raw)
        self.assertEqual((decoded.device, decoded.serial), (canonical(master), serial))
        self.assertEqual(decoded.answer, b"(P69,0,%d)" % 0x28)
        found, _ = sublock.decode(payload)
        self.assertEqual(decoded.events[0], ("peripheral", found))
        self.assertEqual((found.peripheral, found.battery_percent), (identity.hex().upper(), 0x29))
        if kind == sublock.VALVE_JT802:
            known = (0 if len(rest) < 7 else 7) if len(rest) < 11 else 11
            self.assertEqual(found.value, rest[known:].hex() or UNSET)


class PieceTests(SynchronousTestCase):
    """What several messages share."""

    @given(moments)
    def test_time(self, moment: datetime) -> None:
        """ddMMyyHHmmss."""
        self.assertEqual(bcd.time_dmy(bcd.encode_dmy(moment)), moment)

    @given(st.fixed_dictionaries(places), st.booleans())
    def test_position(self, written: dict[str, Any], always: bool) -> None:
        """Place, time and movement in 17 bytes."""
        raw = packed_position.encode(**written, always=always)
        found = packed_position.decode(raw)
        if not written["latitude"] and not written["longitude"] and not written["fix"]:
            written = written | {"latitude": None, "longitude": None}
        self.assertEqual({name: getattr(found, name) for name in written}, written)
        self.assertEqual((len(raw), packed_position.looks_sound(raw)), (packed_position.LENGTH, always))

    @given(st.integers(0, 0xFFFF))
    def test_alarms(self, bits: int) -> None:
        """Names of alarms, as far as a table has them."""
        for table in (alarms.JT709_ALARMS, alarms.JT705_ALARMS[3], alarms.JT701_ALARMS):
            known = bits & sum(1 << bit for bit in table)
            self.assertEqual(alarms.alarm_bits(alarms.name_bits(bits, table), table), known)
