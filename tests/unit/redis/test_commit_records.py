"""commit.lua names the values of each record in the order in which its class sends them."""

import re

import msgspec
from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import events
from jt709c_gateway.redis import commit_records
from jt709c_gateway.redis.commit_records import (
    EventsRecord,
    HeldCondition,
    MalformedRecord,
    OpenSession,
    PositionRecord,
)
from jt709c_gateway.redis.scripts import COMMIT


def named_in_lua(record: str) -> dict[int, str]:
    """The values of a record by their numbers, as the head of commit.lua has them."""
    (text,) = re.findall(rf"--   {record}[,:](.*?)\n--(?:   [A-Z]|\n)", COMMIT.source.decode(), re.DOTALL)
    return {int(number): name for number, name in re.findall(r"\b(\d+) ([a-z_]+)", text.split(":")[-1])}


class LayoutTests(SynchronousTestCase):
    """The classes and the script agree."""

    def test_fields(self) -> None:
        """A field that is added, moved or renamed in one of them has to be in the other as well."""
        for kind in (EventsRecord, PositionRecord):
            fields = dict(enumerate(kind.__struct_fields__, 1))
            self.assertEqual(named_in_lua(kind.__name__), fields, kind)
        # The first value is the empty device id.
        self.assertEqual(
            named_in_lua("MalformedRecord"), dict(enumerate(MalformedRecord.__struct_fields__, 2))
        )

    def test_tags(self) -> None:
        """The script has a function for each change of a session and each condition."""
        for union, table in (
            (commit_records.SessionChange, "sessions"),
            (commit_records.Condition, "conditions"),
        ):
            tags = {one.__struct_config__.tag for one in union.__args__}
            functions = re.findall(rf"function {table}\.(\w+)", COMMIT.source.decode())
            self.assertEqual(set(functions), tags)

    def test_events(self) -> None:
        """The patterns of commit_state.lua name the attributes of events in their order."""
        code = re.sub("--.*", "", COMMIT.source.decode())
        data = [attribute.name for attribute in fields(events.Location)]
        heads = re.findall(r"match\(json,\s*(.*?), at \+", code, re.DOTALL)
        self.assertEqual(len(heads), 3)
        for pattern in heads:
            names = re.findall(r'"([a-z_]+)":', pattern)
            self.assertGreater(len(names), 3)
            self.assertEqual(names, data[: len(names)])
        envelope = [attribute.name for attribute in fields(events.Event)]
        self.assertIn("""'^{"v":(%d+),"id":"(.-)","kind":"location"'""", code)
        self.assertEqual((envelope[:3], envelope[-1]), (["v", "id", "kind"], "data"))

    def test_packed(self) -> None:
        """Records are arrays; unused values are nil, and what is tagged begins with its tag."""
        record = EventsRecord(
            device="1",
            session=OpenSession(token="gw1/1-a", ttl=60, fields=("gateway", "gw1")),
            condition=HeldCondition(key="k", holder="h", token="3"),
        )
        session = ["open", "gw1/1-a", 60, ["gateway", "gw1"]]
        self.assertEqual(
            msgspec.msgpack.decode(msgspec.msgpack.encode(record)),
            ["1", None, "", 0.0, [], None, session, None, ["held", "k", "h", "3", None], None, None, False],
        )

    def test_keywords_only(self) -> None:
        """A value that is given in the wrong place can't be taken for another."""
        self.assertRaises(TypeError, EventsRecord, "1")
