"""The typed `data` of an event in the client."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.client.messages import read_event
from jt709c_gateway.commands.event_data import DATA
from jt709c_gateway.protocol import events
from tests.unit.cli import test_schema


def recorded() -> Iterator[dict[str, Any]]:
    """The events of recorded frames, as a gateway publishes them."""
    return ({**event, "gateway": "gw1"} for event in test_schema.recorded())


class TypedEventTests(SynchronousTestCase):
    def test_recorded_events(self) -> None:
        """The data of each recorded event become an object of its kind, with the same fields."""
        seen = set()
        for published in recorded():
            typed = read_event(json.dumps(published)).typed()
            self.assertIs(type(typed), DATA[published["kind"]])
            again = json.loads(events.to_json(typed))
            for name, value in published["data"].items():
                self.assertEqual(again[name], value, f"{published['kind']}: {name}")
            seen.add(published["kind"])
        self.assertLess({"location", "lock", "heartbeat", "reply", "peripheral", "password"}, seen)

    def test_others(self) -> None:
        """An unknown kind has no type, an unknown field is left out, and a wrong type is an error."""
        heartbeat = next(one for one in recorded() if one["kind"] == "heartbeat")
        self.assertIsNone(read_event(json.dumps({**heartbeat, "kind": "later"})).typed())
        typed = read_event(json.dumps({**heartbeat, "data": {**heartbeat["data"], "later": 1}})).typed()
        self.assertFalse(hasattr(typed, "later"))
        wrong = read_event(json.dumps({**heartbeat, "data": dict.fromkeys(heartbeat["data"], "x")}))
        self.assertRaises(msgspec.ValidationError, wrong.typed)
