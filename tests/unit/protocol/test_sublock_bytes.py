"""The bytes of a sub-lock's report: escaped, written, and read again."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import packed_position, sublock
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.framing import Framer, SentenceFrame
from tests.unit.protocol.test_dialect_jt705 import moments, places
from tests.unit.protocol.test_dialect_sublock import MASTER, NOW, payload
from tests.vectors import message


class EscapeTests(SynchronousTestCase):
    """Bytes that a sentence can't hold."""

    def test_rules(self) -> None:
        """Brackets, comma and the escape itself."""
        for byte, escaped in ((b"(", "3d15"), (b")", "3d14"), (b",", "3d11"), (b"=", "3d00")):
            self.assertEqual(sublock.escape(byte).hex(), escaped)
            self.assertEqual(sublock.unescape(bytes.fromhex(escaped)), byte)
        self.assertEqual(sublock.escape(b"=\x15(").hex(), "3d00153d15")

    @given(st.lists(st.sampled_from([b"(", b")", b",", b"=", b"\x11", b"\x14", b"\x15", b"\0", b"a"])))
    def test_round_trip(self, pieces: list[bytes]) -> None:
        """Escaped bytes have none of the four but the escape, and give back what was escaped."""
        data = b"".join(pieces)
        escaped = sublock.escape(data)
        self.assertFalse(set(escaped) & set(b"(),"))
        self.assertEqual(sublock.unescape(escaped), data)


class RoundTripTests(SynchronousTestCase):
    @given(
        st.fixed_dictionaries(places),
        moments,
        st.text("0123456789ABCDEF", min_size=10, max_size=10),
        st.tuples(st.integers(0, 255), st.integers(0, 100), st.integers(0, 255)),
        st.integers(0, 65535),
        st.tuples(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 7)),
        st.none() | st.integers(0, 2**32 - 1),
    )
    def test_lock(
        self, place: dict[str, Any], time: datetime, identity: str, numbers: tuple[int, int, int],
        volts: int, lock: tuple[int, int, int, int], card: int | None,
    ) -> None:  # fmt: skip
        """What was written is read again, through the framer too."""
        serial, percent, rssi = numbers
        data = payload(
            sublock.LOCK_JT709, sublock.encode_jt709(*lock, card),
            master=packed_position.encode(**place), time=time,
            peripheral=identity, serial=serial, battery_volts=volts / 100, battery_percent=percent,
            rssi_dbm=-rssi,
        )  # fmt: skip
        raw = sublock.encode_report("8054201973", serial, data)
        # Another sentence behind it shows where the payload's last byte, which may be a bracket, ends.
        self.assertEqual(Framer().feed(raw + b"(1,@JT)")[0], SentenceFrame(raw))
        found, event = sublock.decode(data)
        self.assertEqual((found.peripheral, found.time, found.serial), (identity, time, serial))
        self.assertEqual((found.battery_volts, found.battery_percent), (volts / 100, percent))
        self.assertEqual((found.rssi_dbm, found.master_time), (-rssi, place["time"]))
        nowhere = not (place["fix"] or place["latitude"] or place["longitude"])
        for name in ("latitude", "longitude", "speed_kmh", "course_deg"):
            expected = None if nowhere and name in ("latitude", "longitude") else place[name]
            self.assertEqual(getattr(found, name), expected, name)
        self.assertEqual((found.event, found.status_bits), (lock[0] & 0x3FFF, lock[1]))
        self.assertEqual(
            (found.lock_cycles, found.contact_lost), (lock[2], bool(lock[3] & 2 or lock[0] & 1 << 14))
        )
        self.assertEqual(found.card, UNSET if card is None else f"{card:010d}" if card else None)
        self.assertEqual(len(event), (lock[0] & 0b10_0001_1111).bit_count())

    @given(st.none() | st.integers(-4095, 4094).map(lambda tenths: tenths / 10), st.integers(0, 100))
    def test_sensor(self, temperature: float | None, humidity: int) -> None:
        """Temperature and humidity are read again."""
        rest = sublock.encode_jt126(temperature, humidity, 0)
        found, event = sublock.decode(payload(sublock.SENSOR_JT126, rest))
        self.assertEqual((found.temperature_c, found.humidity_percent), (temperature, humidity))
        self.assertEqual(event, [])

    @given(st.binary(max_size=60), st.booleans())
    def test_any_payload(self, data: bytes, sound: bool) -> None:
        """Any payload is read, or carried; what is said can be published."""
        data = MASTER + data if sound else data
        raw = sublock.encode_report("8054201973", 1, data)
        for frame in Framer().feed(raw):
            if frame.raw == raw:
                decoded = message(raw)
                own = data[sublock.SERIAL_AT] if len(data) > sublock.SERIAL_AT else 1
                self.assertEqual(decoded.answer_at(NOW), b"(P69,0,%d)" % own)
                for event in wrap_all(decoded, Origin(), NOW):
                    self.assertNotIn(b"NaN", to_json(event))
