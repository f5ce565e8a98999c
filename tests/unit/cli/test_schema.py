"""jt709c schema: the descriptions are valid, and events and commands are as they say."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.schema import asyncapi, command_schema, event_schema
from jt709c_gateway.commands.model import Envelope, InvalidCommand, Wire, parse_command
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions
from tests.support.cli import run
from tests.vectors.lines import FIELD, NOW, REAL, VENDOR, lines

KEYS = Keys("jt709c")


def recorded() -> Iterator[dict[str, Any]]:
    """The events that the decoder makes of the recorded frames."""
    for data in (line.frame for file in (REAL, FIELD, VENDOR) for line in lines(file)):
        for frame in Framer().feed_datagram(data):
            message = Decoder().decode(frame, 0.0)
            if isinstance(message, Message):
                for event in wrap_all(message, Origin(), NOW, lambda: "gw1-1"):
                    yield json.loads(events.to_json(event))


def references(value: Any) -> Iterator[str]:
    """Every reference in a document."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            yield from references(item)


def resolve(document: Any, reference: str) -> Any:
    """What a reference within a document leads to."""
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        document = document[part]
    return document


class EventTests(SynchronousTestCase):
    def test_recorded_events(self) -> None:
        """Each is as the schema of its kind says, and not as that of another one."""
        whole = jsonschema.Draft202012Validator(event_schema())
        by_kind = {kind: jsonschema.Draft202012Validator(event_schema(kind)) for kind in events.KINDS}
        seen = set()
        for event in recorded():
            whole.validate(event)
            self.assertEqual([kind for kind, one in by_kind.items() if one.is_valid(event)], [event["kind"]])
            seen.add(event["kind"])
        self.assertLess({"location", "lock", "heartbeat", "reply", "peripheral", "password"}, seen)

    def test_valid(self) -> None:
        """A schema without words of Python, with a definition for each kind."""
        schema = event_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        self.assertEqual(len(schema["oneOf"]), len(events.KINDS))
        for reference in references(schema):
            self.assertTrue(resolve(schema, reference))
        self.assertNotIn("None", json.dumps(schema))

    def test_wrong_events(self) -> None:
        """A value of another type, a missing field, an unknown kind."""
        good = next(event for event in recorded() if event["kind"] == "location")
        validator = jsonschema.Draft202012Validator(event_schema())
        self.assertTrue(validator.is_valid({**good, "field_to_come": 1}))
        without = {name: value for name, value in good.items() if name != "device"}
        for wrong in (
            {**good, "serial": "1"},
            {**good, "kind": "nonsense"},
            {**good, "data": {**good["data"], "fix": "guessed"}},
            {**good, "data": {**good["data"], "tilt": [1, 2]}},
            without,
        ):
            self.assertFalse(validator.is_valid(wrong), wrong)


class CommandTests(SynchronousTestCase):
    def test_as_the_gateway_reads_it(self) -> None:
        """What the schema takes, the gateway takes, and the other way round."""
        validator = jsonschema.Draft202012Validator(command_schema())
        least = {"device": "794308010679", "command": "unlock"}
        taken = 0
        for changes in (
            {},
            {"params": {"password": "888888"}, "id": "o-1", "ttl": 300, "timeout": 30, "reply_to": "me.1"},
            {"id": None, "params": None, "ttl": None, "issued_by": None},
            {"device": "E03B60000A"},
            {"device": "E03B60000"},
            {"device": 794308010679},
            {"device": "1" * 21},
            {"command": "Unlock"},
            {"command": "own_command"},
            {"command": "x" * 65},
            {"id": "no spaces"},
            {"id": "x" * 65},
            {"ttl": 0},
            {"ttl": 0.5},
            {"ttl": 604801},
            {"ttl": "300"},
            {"timeout": 0.5},
            {"timeout": 3601},
            {"reply_to": "a:b"},
            {"issued_by": ""},
            {"batch": "night-1"},
            {"batch": "x" * 41},
            {"issued_by": "x" * 129},
            {"params": []},
            {"nonsense": 1},
        ):
            entry = {**least, **changes}
            try:
                parse_command(json.dumps(entry).encode(), 0.0)
                good = True
            except InvalidCommand:
                good = False
            taken += good
            self.assertEqual(validator.is_valid(entry), good, entry)
        self.assertGreater(taken, 5)
        self.assertTrue(validator.is_valid({"key": "k1", "mac": "0" * 64, "order": "{}"}))
        self.assertFalse(validator.is_valid({"key": "k1", "mac": "0" * 64}))

    def test_every_field_is_described(self) -> None:
        schema = command_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        for name, fields in (("Wire", Wire.__struct_fields__), ("Envelope", Envelope.__struct_fields__)):
            properties = schema["$defs"][name]["properties"]
            self.assertEqual(set(properties), set(fields))
            self.assertTrue(all(one["description"] for one in properties.values()))


class AsyncApiTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.document = asyncapi(KEYS)

    def test_references_lead_somewhere(self) -> None:
        found = set(references(self.document))
        self.assertGreater(len(found), 50)
        for reference in found:
            self.assertTrue(resolve(self.document, reference), reference)

    def test_every_channel_stream_and_list(self) -> None:
        """With the names of `Keys`; the gateway receives commands and sends all else."""
        found = {one["address"]: one["x-redis-type"] for one in self.document["channels"].values()}
        expected = {KEYS.channel(kind, "{device}"): "pubsub" for kind in events.KINDS}
        expected |= {KEYS.events: "stream", KEYS.history("{device}"): "stream", KEYS.malformed: "stream"}
        expected |= {KEYS.commands: "list", KEYS.reply("{name}"): "list"}
        self.assertEqual(found, expected)
        for name, operation in self.document["operations"].items():
            self.assertEqual(operation["action"], "receive" if name == "commands" else "send")
            self.assertEqual(operation["channel"], {"$ref": f"#/channels/{name}"})
        for channel in self.document["channels"].values():
            names = {part.partition("}")[0] for part in channel["address"].split("{")[1:]}
            self.assertEqual(set(channel.get("parameters", {})), names)

    def test_partitions(self) -> None:
        """With a partition filled in, addresses are the names that gateways use."""
        for pubsub in ("classic", "sharded"):
            result = run("schema", "asyncapi", "--partitions", "3", "--pubsub", pubsub)
            channels = json.loads(result.stdout)["channels"]
            for number, keys in enumerate(Partitions("jt709c", 3, pubsub == "sharded")):
                for name, key in (
                    ("events", keys.events),
                    ("commands", keys.commands),
                    ("replies", keys.reply("{name}")),
                    ("event_lock", keys.channel("lock", "{device}")),
                ):
                    tag = channels[name].get("parameters", {}).get("partition", {"enum": [""] * 3})["enum"]
                    self.assertEqual(channels[name]["address"].replace("{partition}", tag[number]), key)

    def test_recorded_events(self) -> None:
        """Payloads are schemas of draft 7, and events are as the one of their channel says."""
        for schema in self.document["components"]["schemas"].values():
            jsonschema.Draft7Validator.check_schema(schema)
        self.assertNotIn("prefixItems", json.dumps(self.document))
        for event in recorded():
            (reference,) = self.document["channels"][f"event_{event['kind']}"]["messages"].values()
            payload = resolve(self.document, reference["$ref"])["payload"]
            jsonschema.Draft7Validator({**payload, "components": self.document["components"]}).validate(event)


class ProcessTests(SynchronousTestCase):
    def test_it_prints_json(self) -> None:
        for arguments, expected in (
            (("events",), event_schema()),
            (("events", "--kind", "lock"), event_schema("lock")),
            (("command",), command_schema()),
            (("asyncapi", "--prefix", "fleet2"), asyncapi(Keys("fleet2"))),
        ):
            result = run("schema", *arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(json.loads(result.stdout), expected)

    def test_mistakes(self) -> None:
        for arguments in (("events", "--kind", "nonsense"), ("command", "--kind", "lock"), ("openapi",)):
            result = run("schema", *arguments)
            self.assertEqual((result.returncode, result.stdout, result.stderr.count("\n")), (2, "", 1))
