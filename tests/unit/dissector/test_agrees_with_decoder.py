"""What is shown of recorded frames is what is published of them."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.dissector import Field, explain, leaves, walk
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import Location, LockEvent, Peripheral
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.jt808 import unescape
from jt709c_gateway.protocol.message import Message
from tests.vectors import load

VECTORS = [vector for name in ("jt709.jsonl", "real.jsonl") for vector in load(name)]
#: Unit behind a number, by the name that field and event share.
UNITS = {
    "altitude_m": " m",
    "speed_kmh": " km/h",
    "course_deg": "°",
    "battery_percent": " %",
    "battery_volts": " V",
    "odometer_km": " km",
    "rssi_dbm": " dBm",
    "temperature_c": " °C",
    "humidity_percent": " %",
}
PLAIN = {"satellites": "{} satellites", "gsm_signal": "signal {}", "protocol_version": "version {}"}


def named(fields: list[Field], name: str) -> list[Field]:
    return [each for each in leaves(fields) if each.name == name]


class AgreementTests(SynchronousTestCase):
    """Field by field, written out here once more: if either side drifts, this fails."""

    def messages(self, kind: type) -> list[tuple[list[Field], Any]]:
        """The fields of every sound frame with an event of a kind, and the event."""
        found = []
        for vector in VECTORS:
            (frame,) = Framer().feed(vector["frame"])
            message = Decoder().decode(frame, 0.0)
            if isinstance(message, Message):
                fields = explain(vector["frame"]).fields
                found += [(fields, data) for _, data in message.events if isinstance(data, kind)]
        return found

    def place(self, fields: list[Field], event: Location | LockEvent | Peripheral) -> None:
        """Degrees and sides."""
        for name, value, sides in (("latitude", event.latitude, "SN"), ("longitude", event.longitude, "WE")):
            (field,) = named(fields, name)
            expected = "on no globe" if value is None else f"{abs(value):.6f}° {sides[value >= 0]}"
            self.assertEqual(field.meaning.removesuffix(", no fix"), expected)

    def numbers(self, fields: list[Field], event: object) -> int:
        """Numbers with their units; gives how many there were."""
        seen = 0
        for name, unit in UNITS.items():
            value = getattr(event, name, None)
            for field in named(fields, name):
                seen += 1
                if name != "battery_percent" or value is not None:
                    self.assertEqual(field.meaning, f"{value}{unit}")
        return seen

    def test_locations(self) -> None:
        """Time, place, movement, batteries, alarms and state."""
        locations = self.messages(Location)
        self.assertGreater(len(locations), 100)
        seen = 0
        for fields, location in locations:
            (time,) = named(fields, "time")
            expected = f"{location.time:%Y-%m-%d %H:%M:%S} UTC" if location.time else "no such moment"
            self.assertEqual(time.meaning, expected)
            self.place(fields, location)
            seen += self.numbers(fields, location)
            for name, form in PLAIN.items():
                for field in named(fields, name):
                    value = getattr(location, name)
                    expected = "none" if value is None else form.format(value)
                    self.assertEqual(field.meaning, expected, name)
            (status,) = named(fields, "status_bits")
            self.assertEqual(status.value, location.status_bits)
            self.assertIn(location.lock_state or "", status.meaning)
            for field in named(fields, "alarm_bits"):
                self.assertEqual(field.value, location.alarm_bits)
                self.assertEqual(field.meaning, ", ".join(location.alarms) or "none")
            self.assertEqual(self.kept(fields), location.items)
        self.assertGreater(seen, 500)

    def kept(self, fields: list[Field]) -> dict[str, str]:
        """Items that are not understood, as events have them."""
        return {
            each.children[0].raw: unescape(
                b"".join(bytes.fromhex(child.raw) for child in each.children[2:])
            ).hex()
            for _, each in walk(fields)
            if each.name.startswith("item_") and each.meaning == "not understood"
        }

    def test_cells(self) -> None:
        """Cells of either length."""
        seen = 0
        for fields, location in self.messages(Location):
            if location.cell is None or location.cell.mcc is None:
                continue
            cells = [each for _, each in walk(fields) if each.name in ("cell", "cell_id_low")]
            cell = location.cell
            expected = f"network {cell.mcc}-{cell.mnc}, cell {cell.cell_id}, LAC {cell.lac}"
            self.assertEqual([each.meaning for each in cells], [expected])
            seen += 1
        self.assertGreater(seen, 30)

    def test_lock_events(self) -> None:
        """Code, action, method, card and fence, in items and in P45."""
        events = self.messages(LockEvent)
        self.assertGreater(len(events), 40)
        for fields, event in events:
            (code,) = named(fields, "code")
            self.assertEqual(int(code.value or 0), event.code)
            told = [code, *named(fields, "result")]
            told += [each for _, each in walk(fields) if each.name == "lock_event"]
            said = " ".join(each.meaning for each in told)
            if event.action != "unknown":
                self.assertIn(event.action, said)
                if event.method != "unknown":
                    self.assertIn(event.method, said)
            if event.fence_id is not None:
                self.assertIn(f"fence {event.fence_id}", said)
            for card in named(fields, "card"):
                self.assertIn(event.card or "none", card.meaning)
            self.place(fields, event)

    def test_peripherals(self) -> None:
        """A sensor behind a master."""
        ((fields, sensor),) = self.messages(Peripheral)
        self.place(fields, sensor)
        self.assertEqual(self.numbers(fields, sensor), 7)
        (kind,) = named(fields, "peripheral_type")
        self.assertEqual(kind.meaning, sensor.peripheral_type)

    def test_the_rest(self) -> None:
        """Device, events and answer of every vector."""
        for vector in VECTORS:
            (frame,) = Framer().feed(vector["frame"])
            message = Decoder().decode(frame, 0.0)
            explanation = explain(vector["frame"], secrets=True)
            if isinstance(message, Message):
                self.assertEqual(explanation.device, message.device)
                self.assertEqual(explanation.dialect, message.dialect)
                self.assertEqual(explanation.events, [kind for kind, _ in message.events])
                self.assertEqual(explanation.answer, message.answer.hex() if message.answer else None)
                serials = [int(each.value or 0) for each in named(explanation.fields, "serial")]
                self.assertTrue(message.serial in serials or not serials)
            else:
                self.assertTrue(explanation.broken)
