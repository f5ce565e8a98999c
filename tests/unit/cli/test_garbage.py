"""Events and devices of another shape than a gateway writes them: the commands show the rest."""

import json

from twisted.trial.unittest import SynchronousTestCase
from txredisapi import ResponseError

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.event_display import Display, EventFilter
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis.device_summary import DEVICE_FIELDS, SESSION_FIELDS, summaries
from jt709c_gateway.redis.labels import LABEL_FIELDS

ODD = {"latitude": [], "duration_s": "x", "answer": {"arguments": 5}, "arguments": 5, "alarms": 5, "name": {}}
WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class GarbageTests(SynchronousTestCase):
    def test_events_of_another_shape_have_a_line(self) -> None:
        """Of any kind, whatever their data are."""
        for kind in (*KINDS, "another", None, 5):
            for data in (ODD, None, 5, [ODD], dict.fromkeys(ODD)):
                self.assertNotIn("\n", event_format.line({"kind": kind, "device": 5, "data": data}).plain)

    def test_an_event_too_deep_to_be_read_does_not_end_the_watch(self) -> None:
        """It is named as no event."""
        display = Display(EventFilter("jt709c"))
        display.show("x", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}")
        display.show("x", json.dumps({"kind": "command", "data": ODD}).encode())

    def test_a_device_of_another_type_does_not_end_the_list(self) -> None:
        """Nothing is known of it; what else Redis refuses is raised."""
        state: list[bytes | None] = [None] * len(DEVICE_FIELDS)
        session: list[bytes | None] = [b"gw1", *[None] * (len(SESSION_FIELDS) - 1)]
        label: list[bytes | None] = [None] * len(LABEL_FIELDS)
        first, second = summaries(["1", "2"], [WRONG, session, WRONG, state, WRONG, label])
        self.assertEqual((first.online, first.dialect, second.online), (True, None, False))
        refusal = ResponseError("NOPERM this user has no permissions")
        self.assertRaises(ResponseError, summaries, ["1"], [refusal, session, label])
