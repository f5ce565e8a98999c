"""Labels of devices: which are taken, and hash and set of a real server in agreement."""

from collections.abc import Coroutine
from typing import Any

import msgspec
import txredisapi
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis import labels as labels_module
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.labels import Label, LabelError, Labels, label_of, read_label
from tests.support import RedisClient, RedisError
from tests.support.acl import COMMANDER, GATEWAY, READER, GuardedServer

OPERATOR = "jt709c-operator"
DEVICE, OTHER = "794308010001", "794308010002"
FULL = Label("Truck 12", "north", "AB 123 CD", "spare key in the office")


class ReadLabelTests(SynchronousTestCase):
    def refused(self, **fields: object) -> LabelError:
        return self.assertRaises(LabelError, read_label, fields)

    def test_taken(self) -> None:
        """Blanks around a text go, and what is empty is not set."""
        found = read_label({"name": "  Truck 12 ", "group": "", "plate": None, "note": "Zürich 🚚 東京"})
        self.assertEqual(found, Label(name="Truck 12", note="Zürich 🚚 東京"))
        self.assertEqual(msgspec.json.encode(Label("x")), b'{"name":"x"}')
        self.assertFalse(read_label({"name": " "}))

    def test_composed(self) -> None:
        """Two spellings of one character are one, so that a search finds both."""
        self.assertEqual(read_label({"name": "Zu\u0308rich"}), read_label({"name": "Zürich"}))

    def test_too_long(self) -> None:
        for name, limit in labels_module.LABEL_LIMITS.items():
            self.assertTrue(read_label({name: "x" * limit}))
            error = self.refused(**{name: "x" * (limit + 1)})
            self.assertEqual(error.field, name)
            self.assertIn(f"{name} has {limit + 1} characters: expected at most {limit}", str(error))

    def test_control_characters(self) -> None:
        """Nor may a name turn the id behind it around."""
        for text in ("a\nb", "a\tb", "\x1b[31m", "a\x7f", "a\u2028b", "a\u202eb", "a\udc80"):
            self.assertEqual(self.refused(name=text).field, "name")
        self.assertIn("U+000A as its character 6", str(self.refused(note="first\nsecond")))

    def test_other_values(self) -> None:
        self.assertIn("name is a number of 2 digits", str(self.refused(name=12)))
        self.assertIn("expected name, group, plate, note", str(self.refused(nmae="x")))

    def test_what_others_wrote(self) -> None:
        """It is shown as far as it can be."""
        found = label_of([b"Truck\n12\xff", "x" * 100, b"", None])
        self.assertEqual(found, Label("Truck 12\ufffd", "x" * 64))
        self.assertIsNone(label_of([None, b"", b"\n", None]))


class LabelsTests(SynchronousTestCase):
    """As the users of etc/redis-acl.conf, on a real server."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.end()

    def setUp(self) -> None:
        self.keys = Keys()
        self.admin = self.server.client()
        self.addCleanup(self.admin.close)
        self.admin.call("FLUSHALL")
        self.client = self.server.client_of(GATEWAY)
        self.addCleanup(self.client.close)

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """As a connection does."""
        try:
            return defer.succeed(self.client.call(*arguments))
        except RedisError as error:
            return defer.fail(txredisapi.ResponseError(str(error)))

    def asked(self, question: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(defer.Deferred.fromCoroutine(question))

    @property
    def labels(self) -> Labels:
        return Labels(self, self.keys)

    def log_in(self, user: str) -> RedisClient:
        client = self.server.client_of(user)
        self.addCleanup(client.close)
        return client

    def changed(self) -> list[bytes]:
        found: list[bytes] = self.admin.call("ZRANGE", self.keys.label_changes, 0, -1)
        return found

    def test_written_and_read(self) -> None:
        self.assertEqual(
            self.asked(self.labels.write({DEVICE: FULL, OTHER: Label("Truck 13")})), [DEVICE, OTHER]
        )
        self.assertEqual(self.asked(self.labels.read([OTHER, "5", DEVICE])), [Label("Truck 13"), None, FULL])
        self.assertEqual(self.asked(self.labels.all()), {DEVICE: FULL, OTHER: Label("Truck 13")})
        self.assertEqual(self.admin.call("HGET", self.keys.label(DEVICE), "plate"), b"AB 123 CD")

    def test_replaced(self) -> None:
        """A field that is no longer set goes; fields of others stay as long as there is a label."""
        self.asked(self.labels.write({DEVICE: FULL}))
        self.admin.call("HSET", self.keys.label(DEVICE), "colour", "red")
        self.assertEqual(self.asked(self.labels.write({DEVICE: Label("Truck 12", "south")})), [DEVICE])
        found = self.admin.call("HGETALL", self.keys.label(DEVICE))
        self.assertEqual(set(found[::2]), {b"name", b"group", b"colour"})

    def test_removed(self) -> None:
        """Hash and set entry are both gone, and open pages are told."""
        self.asked(self.labels.write({DEVICE: FULL, OTHER: FULL}))
        self.assertTrue(self.asked(self.labels.remove(DEVICE)))
        self.assertFalse(self.asked(self.labels.remove(DEVICE)))
        self.assertEqual(self.admin.call("EXISTS", self.keys.label(DEVICE)), 0)
        self.assertEqual(self.asked(self.labels.labelled()), [OTHER])
        self.assertEqual(self.changed(), [OTHER.encode(), DEVICE.encode()])

    def test_unchanged(self) -> None:
        """Writing the same again tells nobody; a hash that lacks its set entry gets it."""
        self.asked(self.labels.write({DEVICE: FULL}))
        self.admin.call("DEL", self.keys.label_changes)
        self.admin.call("SREM", self.keys.labels, DEVICE)
        self.assertEqual(self.asked(self.labels.write({DEVICE: FULL})), [])
        self.assertEqual(self.changed(), [])
        self.assertEqual(self.asked(self.labels.labelled()), [DEVICE])

    def test_changes_are_few_and_expire(self) -> None:
        self.patch(labels_module, "_CHANGES", 3)
        self.asked(self.labels.write({str(number): FULL for number in range(10, 16)}))
        self.assertEqual(self.changed(), [b"13", b"14", b"15"])
        self.assertGreater(self.admin.call("TTL", self.keys.label_changes), 3500)

    def test_many(self) -> None:
        """More than one call takes."""
        many = {str(number): Label(f"Truck {number}") for number in range(labels_module.AT_ONCE + 1)}
        self.assertEqual(len(self.asked(self.labels.write(many))), len(many))
        self.assertEqual(self.asked(self.labels.all()), many)

    def test_key_of_another_type(self) -> None:
        """It is an error, and nothing of this device is written."""
        self.admin.call("SET", self.keys.label(DEVICE), "x")
        writing = defer.Deferred.fromCoroutine(self.labels.write({DEVICE: FULL}))
        self.assertIn("WRONGTYPE", str(self.failureResultOf(writing, txredisapi.ResponseError).value))
        self.assertEqual(self.admin.call("SCARD", self.keys.labels), 0)

    def test_users(self) -> None:
        """The operator writes; reader and commander only read."""
        self.client = self.log_in(OPERATOR)
        self.assertEqual(self.asked(self.labels.write({DEVICE: FULL})), [DEVICE])
        self.assertTrue(self.asked(self.labels.remove(DEVICE)))
        self.asked(self.labels.write({DEVICE: FULL}))
        for user in (READER, COMMANDER):
            self.client = self.log_in(user)
            self.assertEqual(self.asked(self.labels.all()), {DEVICE: FULL})
            writing = defer.Deferred.fromCoroutine(self.labels.remove(DEVICE))
            self.assertIn("NOPERM", str(self.failureResultOf(writing, txredisapi.ResponseError).value))
