"""Sub-locks and sensors behind a JT701 master: `WLNET,5`."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import UNSET
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import packed_position, sublock
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import Alarm, LockEvent, Peripheral, Reply, Unknown, to_json
from jt709c_gateway.protocol.message import Message
from tests.vectors import load, message

T = TypeVar("T")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MASTER = packed_position.encode(NOW, -25.281482, -57.546568, True, 18.52, 304)


def payload(kind: int, rest: bytes, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "master": MASTER,
        "time": NOW,
        "peripheral": "E03B60000A",
        "serial": 0x83,
        "battery_volts": 3.12,
        "battery_percent": 99,
        "rssi_dbm": -22,
    }
    return sublock.encode(**(fields | changes), kind=kind, rest=rest)


def jt709(event: int = 0, status: int = 0, card: int | None = 0, gateway: int = 0) -> bytes:
    return payload(sublock.LOCK_JT709, sublock.encode_jt709(event, status, 19, gateway, card))


def reported(data: bytes) -> Message:
    return message(sublock.encode_report("8054201973", 77, data))


def peripheral(data: bytes) -> Peripheral:
    found = reported(data).events[0][1]
    assert isinstance(found, Peripheral)
    return found


def told(data: bytes, what: type[T]) -> list[T]:
    """What a report tells of one sort, in order."""
    return [found for _, found in reported(data).events if isinstance(found, what)]


class VectorTests(SynchronousTestCase):
    """Reports that real masters sent."""

    def test_sensor(self) -> None:
        """A JT126 in Paraguay: temperature and humidity, and where its master is."""
        vector = next(vector for vector in load("real.jsonl") if b"WLNET" in vector["frame"])
        decoded = message(vector["frame"])
        self.assertEqual((decoded.device, decoded.dialect), ("8054201973", "jt701"))
        self.assertEqual(decoded.answer_at(NOW), vector["expect"]["answer"].encode())
        self.assertEqual((decoded.serial, decoded.report), (168, True))
        (event,) = wrap_all(decoded, Origin(), NOW)
        self.assertEqual(event.kind, "peripheral")
        self.assertEqual(
            from_json(to_json(event))["data"],
            {
                "peripheral": "1021220618",
                "peripheral_type": "jt126",
                "time": "2025-02-28T08:59:55Z",
                "serial": 0x73,
                "battery_percent": 100,
                "battery_volts": 3.2,
                "rssi_dbm": -71,
                "master_time": "2025-02-28T08:59:53Z",
                "fix": "gnss",
                "latitude": -25.282147,
                "longitude": -57.546567,
                "speed_kmh": 0.0,
                "course_deg": 0,
                "resent": False,
                "contact_lost": False,
                "low_voltage": False,
                "temperature_c": 28.5,
                "humidity_percent": 67,
                "records_waiting": 0,
            },
        )

    def test_lock(self) -> None:
        """A JT709 whose back cover is open, and whose master has no fix."""
        decoded = reported(
            bytes.fromhex(
                "0608261155070000000000000000080000060826115507e03b60000a8301386316040004000400130000000000"
            )
        )
        found, event = decoded.events[0][1], decoded.events[1][1]
        assert isinstance(found, Peripheral) and isinstance(event, Alarm)
        self.assertEqual((found.peripheral, found.peripheral_type), ("E03B60000A", "jt709"))
        self.assertEqual((found.battery_volts, found.battery_percent, found.rssi_dbm), (3.12, 99, -22))
        self.assertEqual((found.fix, found.event, found.lock_cycles), ("none", 4, 19))
        self.assertEqual((found.lock_state, found.back_cover_open), ("locked", True))
        self.assertEqual((found.rope_open, found.motor_open, found.charging), (False, False, False))
        self.assertEqual((found.card, found.value), (None, UNSET))
        self.assertEqual((found.alarms, found.reasons), (("back_cover_opened",), ()))
        self.assertEqual(
            (event.name, event.active, event.peripheral), ("back_cover_opened", True, "E03B60000A")
        )
        self.assertEqual((event.latitude, event.longitude), (None, None))
        self.assertEqual((found.latitude, found.longitude), (None, None))


class LockTests(SynchronousTestCase):
    """JT709 sub-locks."""

    def test_movements(self) -> None:
        """The event is a mask: bits 0, 1, 3 and 9 give a lock event each, alone and with any others."""
        moves = {
            0: ("unknown", "locked"),
            1: ("bluetooth", "unlocked"),
            3: ("lora", "unlocked"),
            9: ("card", "unlocked"),
        }
        for others in (0, 1 << 6, 1 << 2 | 1 << 4 | 1 << 12, sublock.RESENT, sublock.SIGNAL_LOST):
            for bit, (method, action) in moves.items():
                (event,) = told(jt709(1 << bit | others, card=6437449), LockEvent)
                self.assertEqual((event.code, event.method, event.action), (1 << bit, method, action))
                self.assertEqual((event.card, event.peripheral), ("0006437449", "E03B60000A"))
                self.assertEqual((event.time, event.result), (NOW, None))
                self.assertEqual((event.latitude, event.longitude), (-25.281482, -57.546568))
        several = told(jt709(0b10_0000_1011, card=7), LockEvent)
        self.assertEqual([event.code for event in several], [1, 2, 8, 512])
        self.assertEqual([event.card for event in several], [None, None, None, "0000000007"])

    def test_what_moves_nothing(self) -> None:
        """All other bits say why it reported, or are alarms of the sub-lock; none is a lock event."""
        for bit, reason, alarm in (
            (2, None, "back_cover_opened"), (4, None, "rope_cut"), (5, "button", None), (6, "timer", None),
            (7, "charging", None), (8, "rope_pulled_out", None), (10, "bit_10", None), (13, "bit_13", None),
        ):  # fmt: skip
            data = jt709(1 << bit)
            found = peripheral(data)
            self.assertEqual(told(data, LockEvent), [])
            self.assertEqual(found.reasons, () if reason is None else (reason,))
            self.assertEqual(found.alarms, () if alarm is None else (alarm,))
            alarms = [(each.name, each.active, each.peripheral) for each in told(data, Alarm)]
            self.assertEqual(alarms, [] if alarm is None else [(alarm, True, "E03B60000A")])
        self.assertEqual([kind for kind, _ in reported(jt709()).events], ["peripheral"])

    def test_link(self) -> None:
        """Bits 14 and 15 are of the link to it, and no part of the event."""
        for bits, lost, resent in ((0, False, False), (1 << 14, True, False), (1 << 15, False, True)):
            found = peripheral(jt709(1 << 6 | bits))
            self.assertEqual((found.event, found.reasons), (1 << 6, ("timer",)))
            self.assertEqual((found.contact_lost, found.resent), (lost, resent))

    def test_reasons_by_name(self) -> None:
        """A movement is among the reasons, too."""
        found = peripheral(jt709(0b11_0110_1011))
        self.assertEqual(
            found.reasons,
            (
                "locked",
                "unlocked_by_bluetooth",
                "unlocked_by_lora",
                "button",
                "timer",
                "rope_pulled_out",
                "unlocked_by_card",
            ),
        )

    def test_no_peripheral(self) -> None:
        """The lock events of the device itself don't have the field at all."""
        decoded = message(load("real.jsonl")[0]["frame"])
        for event in wrap_all(decoded, Origin(), NOW):
            self.assertNotIn("peripheral", from_json(to_json(event))["data"])

    def test_status(self) -> None:
        """Each bit of the status, and the state of the lock that rope and motor give."""
        for status, rope, motor, cover, charging in (
            (0, False, False, False, False),
            (sublock.STATUS_ROPE, True, False, False, False),
            (sublock.STATUS_MOTOR, False, True, False, False),
            (sublock.STATUS_COVER, False, False, True, False),
            (sublock.STATUS_CHARGING, False, False, False, True),
        ):
            found = peripheral(jt709(status=status))
            self.assertEqual((found.rope_open, found.motor_open), (rope, motor))
            self.assertEqual((found.back_cover_open, found.charging), (cover, charging))
            self.assertEqual(found.lock_state, "unlocked" if rope or motor else "locked")
            self.assertEqual(found.status_bits, status)

    def test_gateway(self) -> None:
        """What the master says of the link."""
        for bits, resent, lost, low in (
            (0, False, False, False),
            (1, True, False, False),
            (2, False, True, False),
            (4, False, False, True),
            (7, True, True, True),
        ):
            sensor = payload(sublock.SENSOR_JT126, sublock.encode_jt126(1.0, 50, bits))
            for found in (peripheral(jt709(gateway=bits)), peripheral(sensor)):
                self.assertEqual((found.resent, found.contact_lost, found.low_voltage), (resent, lost, low))

    def test_card(self) -> None:
        """Older firmware sends no card; 0 is none. It has no bits for cover and charging either."""
        self.assertEqual(
            (peripheral(jt709(card=None)).back_cover_open, peripheral(jt709(card=None)).charging),
            (None, None),
        )
        old = peripheral(jt709(card=None, status=sublock.STATUS_COVER | sublock.STATUS_CHARGING))
        self.assertEqual((old.back_cover_open, old.charging, old.lock_state), (True, True, "locked"))
        self.assertIs(peripheral(jt709(card=None)).card, UNSET)
        self.assertIsNone(peripheral(jt709(card=0)).card)
        self.assertEqual(peripheral(jt709(card=1)).card, "0000000001")


class OtherTests(SynchronousTestCase):
    """Sensors, valves, and what nobody knows."""

    def test_temperature(self) -> None:
        """A sign nibble and tenths of a degree; FFFF is none."""
        for raw, expected in ((0x1190, -40.0), (0x0113, 27.5), (0, 0.0), (0xFFFF, None), (0x1001, -0.1)):
            rest = raw.to_bytes(2, "big") + b"\x43\x00\x00\x00"
            found = peripheral(payload(sublock.SENSOR_JT126, rest))
            self.assertEqual((found.temperature_c, found.humidity_percent), (expected, 67))

    def test_records_waiting(self) -> None:
        """A sensor tells how many it has."""
        rest = sublock.encode_jt126(21.5, 50, 0, 300)
        self.assertEqual(peripheral(payload(sublock.SENSOR_JT126, rest)).records_waiting, 300)

    def test_valve_events(self) -> None:
        """Valves and valve locks have the tail of a lock, and bits of their own."""
        for kind in (5, 6, sublock.VALVE_JT802):
            for bit, event, reason, alarm in (
                (0, None, "valve_closed", None), (1, None, "valve_opened", None),
                (2, None, None, "low_battery"), (3, None, "timer", None),
                (4, None, None, "tampered"), (5, None, None, "back_cover_opened"),
                (6, ("lora", "unlocked"), "unlocked_by_lora", None),
                (7, ("unknown", "locked"), "locked", None),
                (8, ("bluetooth", "unlocked"), "unlocked_by_bluetooth", None),
                (9, None, "rope_pulled_out", None),
                (10, None, "rope_inserted", None), (11, None, "bluetooth", None), (12, None, "button", None),
                (13, None, "bit_13", None), (15, None, "bit_15", None),
            ):  # fmt: skip
                data = payload(kind, sublock.encode_jt709(1 << bit, sublock.STATUS_MOTOR, 7, 2, 5))
                found = peripheral(data)
                self.assertEqual(
                    (found.lock_state, found.lock_cycles, found.card), ("unlocked", 7, "0000000005")
                )
                self.assertEqual((found.event, found.contact_lost), (1 << bit, True))
                self.assertEqual(found.reasons, () if reason is None else (reason,))
                self.assertEqual(found.alarms, () if alarm is None else (alarm,))
                events = [(each.method, each.action) for each in told(data, LockEvent)]
                self.assertEqual(events, [] if event is None else [event])
                self.assertEqual([each.name for each in told(data, Alarm)], [] if alarm is None else [alarm])

    def test_no_place(self) -> None:
        """0,0 without a fix is no place of anything."""
        nowhere = packed_position.encode(NOW, 0.0, 0.0, False, 0, 0)
        data = payload(sublock.LOCK_JT709, sublock.encode_jt709(3, 0, 1, 0, 0), master=nowhere)
        found = peripheral(data)
        self.assertEqual((found.fix, found.latitude, found.longitude), ("none", None, None))
        self.assertEqual([each.latitude for each in told(data, LockEvent)], [None, None])
        somewhere = packed_position.encode(NOW, 0.5, 0.0, False, 0, 0)
        found = peripheral(payload(sublock.LOCK_JT709, sublock.encode_jt709(0, 0, 1, 0, 0), master=somewhere))
        self.assertEqual((found.fix, found.latitude, found.longitude), ("none", 0.5, 0.0))

    def test_clock_never_set(self) -> None:
        """The date 010100 is no moment, neither the master's nor the sub-lock's."""
        data = bytearray(payload(sublock.LOCK_JT709, sublock.encode_jt709(3, 0, 1, 0, 0)))
        data[:3] = data[17:20] = bytes.fromhex("010100")
        found = peripheral(bytes(data))
        self.assertEqual((found.time, found.master_time), (None, None))
        self.assertEqual([each.time for each in told(bytes(data), LockEvent)], [None, None])

    def test_valve(self) -> None:
        """A JT802 with a tail that is too short and a type that nobody knows are carried with their bytes."""
        for kind, name in ((sublock.VALVE_JT802, "jt802"), (77, 77)):
            decoded = reported(payload(kind, b"\x01\x02\x03"))
            self.assertEqual([kind for kind, _ in decoded.events], ["peripheral"])
            found = peripheral(payload(kind, b"\x01\x02\x03"))
            self.assertEqual((found.peripheral_type, found.value), (name, "010203"))
            self.assertEqual((found.event, found.lock_state, found.resent), (UNSET, UNSET, UNSET))

    def test_other_lengths(self) -> None:
        """A tail that is too short is kept as hex, and so is what a longer one has more."""
        for kind, whole in ((4, sublock.encode_jt709(2, 2, 1, 0, 7)), (1, sublock.encode_jt126(1.5, 2, 0))):
            found, event = sublock.decode(payload(kind, whole + b"\xab\xcd"))
            self.assertEqual(found.value, "abcd")
            self.assertEqual(len(event), int(kind == 4))
            for length in range(1, 6):
                found, event = sublock.decode(payload(kind, whole[:length]))
                self.assertEqual((found.value, event), (whole[:length].hex(), []))

    def test_unreadable(self) -> None:
        """What is no such report is carried and answered, by the sub-lock's serial where there is one."""
        for sentence, answered in (
            (b"(8054201973,1,007,WLNET,5,2," + b"a" * 40 + b")", ord("a")),
            (b"(8054201973,1,007,WLNET,5,3,abc)", 7),
            (b"(8054201973,1,007,WLNET,5)", 7),
            (b"(8054201973,1,007,WLNET,7)", 7),
        ):
            decoded = message(sentence)
            self.assertIsInstance(decoded.events[0][1], Unknown)
            self.assertEqual((decoded.answer_at(NOW), decoded.dialect), (b"(P69,0,%d)" % answered, "jt701"))
            self.assertTrue(decoded.report)

    def test_answers(self) -> None:
        """The answer has the sub-lock's own serial, or, where so chosen, the sentence's."""
        for kind, rest in (
            (sublock.LOCK_JT709, sublock.encode_jt709(0, 0, 1, 0, 0)),
            (sublock.SENSOR_JT126, sublock.encode_jt126(1.0, 2, 0)),
            (77, b""),
        ):
            raw = sublock.encode_report("8054201973", 110, payload(kind, rest, serial=0x12))
            decoded = message(raw)
            self.assertEqual((decoded.answer, decoded.serial), (b"(P69,0,18)", 110))
            self.assertEqual(message(raw, Decoder(sentence_serial=True)).answer, b"(P69,0,110)")

    def test_replies(self) -> None:
        """Other WLNET sentences are replies to commands, and not answered."""
        decoded = message(b"(8054201973,1,007,WLNET,8,1,E03B60000A)")
        self.assertEqual(decoded.events, [("reply", Reply("WLNET", ("8", "1", "E03B60000A")))])
        self.assertIsNone(decoded.answer_at(NOW))

    def test_times(self) -> None:
        """Each clock may be impossible by itself."""
        data = jt709(2)
        for bad, master_time, time in ((0, None, NOW), (17, NOW, None)):
            found, event = sublock.decode(data[:bad] + bytes(6) + data[bad + 6 :])
            self.assertEqual((found.master_time, found.time), (master_time, time))
            self.assertEqual([each.time for each in event], [time])
