"""Recorded `7E` and `$` frames, each line of the vectors a test of its own."""

from datetime import datetime
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer, Malformed
from tests.vectors.lines import (
    FIELD,
    NOW,
    REAL,
    VENDOR,
    Line,
    check_expected,
    lines,
    one_test_each,
    published,
)


def corrected(line: Line) -> Any:
    """What a line expects, less what its own bytes contradict.

    The first line has no hardware version in it, and ends its acceleration with ff ff, which is -1.
    """
    if line.number != 1:
        return line.expect
    location = dict(line.expect["data"]["location"]) | {"acceleration": [-4, 1, -1]}
    assert b"\xef\x01" not in line.frame
    del location["hardware_version"]
    return line.expect | {"data": {"location": location}}


@one_test_each(line for line in lines(FIELD) if line.binary)
class FieldTests(SynchronousTestCase):
    """Frames that integrators recorded."""

    def check(self, line: Line) -> None:
        """What is published is what the line expects."""
        check_expected(self, evolve(line, data=line.data | {"expect": corrected(line)}))


@one_test_each(line for line in lines(VENDOR) if line.binary)
class VendorTests(SynchronousTestCase):
    """Frames that the manufacturer's decoder has read; `test_protocol_vectors` goes through their fields."""

    def check(self, line: Line) -> None:
        """Device, serial, kind, place, time and state are the vendor's, and no password is told."""
        vendor = line.data["vendor"]
        first, *rest = published(line.frame)
        self.assertEqual(first["device"], vendor["DeviceID"])
        if vendor["MsgType"] == "heartbeat":
            self.assertEqual((first["kind"], rest), ("heartbeat", []))
            return
        body, data = vendor["DataBody"], first["data"]
        self.assertEqual((first["kind"], first["serial"]), ("location", body["Index"]))
        self.assertEqual((data["latitude"], data["longitude"]), (body["Latitude"], body["Longitude"]))
        self.assertEqual(data["time"][:16], body["GpsTime"][:16])
        self.assertEqual(data["lock_state"], "unlocked" if body["LockStatus"] else "locked")
        event = body["LockEvent"]
        self.assertEqual([one["data"]["code"] for one in rest], [event["Type"]] if event else [])
        if event and event["Password"]:
            self.assertNotIn(event["Password"].encode().hex(), first["raw"])


@one_test_each(line for line in lines(REAL) if line.binary)
class RealTests(SynchronousTestCase):
    """Frames that real locks sent."""

    def check(self, line: Line) -> None:
        """Device, serial, place, time and answer are as expected; one was changed before it was published."""
        expect, found = line.expect, Decoder().decode(Framer().feed_datagram(line.frame)[0], 0.0)
        if isinstance(found, Malformed):
            self.assertEqual((found.reason, expect["device"]), ("check", "858012030003"))
            return
        assert found is not None
        self.assertEqual(
            (found.device, found.serial, found.dialect),
            (expect["device"], expect["serial"], line.data["dialect"]),
        )
        data: Any = found.events[0][1]
        for name in ("latitude", "longitude", "speed_kmh", "course_deg", "satellites"):
            self.assertEqual(getattr(data, name), expect[name], name)
        self.assertEqual(data.time, datetime.fromisoformat(expect["time"]))
        if "answer" in expect:
            self.assertEqual((found.answer_at(NOW) or b"").decode(), expect["answer"] or "")
