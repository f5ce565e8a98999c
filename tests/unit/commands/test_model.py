"""Reading commands: what is taken, what is refused and how it is told."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE, LOCAL_COMMANDS, canonical
from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import (
    ENDED,
    MAX_COMMAND_BYTES,
    Command,
    CommandState,
    InvalidCommand,
    parse_command,
    quote,
    truncate,
)
from jt709c_gateway.commands.serialization import from_queue_entry, to_queue_entry

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def raw(**fields: Any) -> bytes:
    return json.dumps({"device": "794308010679", "command": "unlock", **fields}).encode()


class ParseTests(SynchronousTestCase):
    def refused(self, data: bytes) -> InvalidCommand:
        return self.assertRaises(InvalidCommand, parse_command, data, 1.0)

    def test_smallest(self) -> None:
        """Device and command are enough; the rest has defaults."""
        command = parse_command(raw(), 12.5, new_id=lambda: "made")
        self.assertEqual(command, Command("made", "794308010679", "unlock", created_at=12.5))
        self.assertEqual((command.ttl, command.timeout, command.reply_to), (300.0, 30.0, None))

    def test_made_ids_differ(self) -> None:
        """A command without an id gets one of 32 hex digits."""
        first, second = parse_command(raw(), 0), parse_command(raw(), 0)
        self.assertNotEqual(first.id, second.id)
        self.assertRegex(first.id, "^[0-9a-f]{32}$")

    def test_everything(self) -> None:
        """Each field arrives where it belongs."""
        command = parse_command(
            raw(
                id="a-B_9",
                params={"password": "888888", "method": None},
                ttl=604800,
                timeout=1.5,
                reply_to="me.1",
                issued_by="Zoë",
                batch="night-1",
            ),
            0,
        )
        self.assertEqual(command.id, "a-B_9")
        self.assertEqual(command.params, {"password": "888888"})
        self.assertEqual((command.ttl, command.timeout), (604800.0, 1.5))
        self.assertEqual((command.reply_to, command.issued_by, command.batch), ("me.1", "Zoë", "night-1"))

    def test_nulls_are_absent(self) -> None:
        """A null stands for a field left out."""
        command = parse_command(raw(ttl=None, timeout=None, params=None, id=None), 0)
        self.assertEqual((command.ttl, command.timeout, command.params), (300.0, 30.0, {}))

    def test_aliases(self) -> None:
        """unseal is unlock, lock is seal."""
        for alias, name in ALIASES.items():
            self.assertEqual(parse_command(raw(command=alias), 0).name, name)
            self.assertEqual(canonical(alias), name)
            self.assertIn(name, CATALOGUE)

    def test_fields_out_of_bounds(self) -> None:
        """The complaint names the field and what is right, and tells of the value only kind and length."""
        for field, value, expected in [
            ("id", "a b", "1 to 64 letters"),
            ("id", "x" * 65, "1 to 64 letters"),
            ("id", 7, "1 to 64 letters"),
            ("device", "79-43", "1 to 20 digits"),
            ("device", 794308010679, "1 to 20 digits"),
            ("device", "", "1 to 20 digits"),
            ("command", "Unlock now", "lower-case letters"),
            ("ttl", 0, "at most 604800"),
            ("ttl", 604801, "at most 604800"),
            ("ttl", 10**400, "at most 604800"),
            ("ttl", True, "at most 604800"),
            ("ttl", "300", "at most 604800"),
            ("timeout", 0.5, "from 1 to 3600"),
            ("timeout", 3601, "from 1 to 3600"),
            ("timeout", -(10**400), "from 1 to 3600"),
            ("reply_to", "a:b", "1 to 64 letters"),
            ("reply_to", "{a}", "1 to 64 letters"),
            ("reply_to", "", "1 to 64 letters"),
            ("issued_by", "a\nb", "printable"),
            ("issued_by", "a" * 129, "printable"),
            ("batch", "x" * 41, "1 to 40 letters"),
            ("batch", "night shift", "1 to 40 letters"),
        ]:
            error = self.refused(raw(**{field: value}))
            self.assertEqual(error.field, field)
            self.assertIn(expected, str(error))
            if len(str(value)) > 2:
                self.assertNotIn(str(value), str(error))

    def test_missing(self) -> None:
        """A missing field is named."""
        self.assertEqual(str(self.refused(b'{"device":"1"}'))[:17], "command: missing;")
        self.assertEqual(str(self.refused(b'{"command":"x"}'))[:16], "device: missing;")

    def test_unknown_fields(self) -> None:
        """Unknown fields are told by place, length and likeness, all of them, and never repeated."""
        said = str(self.refused(raw(zweit=1, tll=2)))
        self.assertIn("(a name of 5 characters), field ", said)
        self.assertIn("(a name of 3 characters, near ttl); expected only batch, command", said)

    def test_created_at_is_ours(self) -> None:
        """A sender can't backdate a command."""
        self.assertIn("unknown field", str(self.refused(raw(created_at=1))))

    def test_params_are_never_quoted(self) -> None:
        """A password where the object should be stays out of the message."""
        error = self.refused(raw(params="888888"))
        self.assertEqual(error.field, "params")
        self.assertIn("is text", str(error))
        self.assertNotIn("888888", str(error))

    def test_bounded_params(self) -> None:
        """Deep nesting and endless integers are refused."""
        deep: Any = 1
        for _ in range(9):
            deep = [deep]
        for value in (deep, 2**64, [{"a": -(2**63) - 1}]):
            self.assertEqual(self.refused(raw(params={"x": value})).field, "params")

    def test_not_json(self) -> None:
        """Whatever isn't a JSON object is refused in words."""
        for data, words in [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"[" * 16000, "nested too deep"),
            (b'"\xff"', "not UTF-8"),
            (b"[1]", "is a list"),
            (b"7", "is a number"),
            (b'{"ttl":1e999}', "not JSON"),
            (b"x" * (MAX_COMMAND_BYTES + 1), "16385 bytes"),
        ]:
            error = self.refused(data)
            self.assertEqual(error.field, "entry")
            self.assertIn(words, str(error))
            self.assertIsNone(error.command_id)

    def test_salvage(self) -> None:
        """Id, device, command and reply_to come along when they are readable themselves."""
        error = self.refused(raw(id="o1", command="lock", reply_to="r", ttl=-1))
        self.assertEqual(
            (error.command_id, error.device, error.command, error.reply_to),
            ("o1", "794308010679", "seal", "r"),
        )
        error = self.refused(raw(id="o 1", reply_to="a:b", ttl=-1))
        self.assertEqual((error.command_id, error.reply_to), (None, None))

    def test_long_values_are_cut(self) -> None:
        """A message does not grow with the value it complains about."""
        self.assertLess(len(str(self.refused(raw(id="x" * 5000)))), 200)
        self.assertEqual(truncate("a\x00b"), "a\\x00b")
        self.assertEqual(len(truncate("a" * 100)), 49)
        self.assertEqual(quote("888888", secret=True), MASK)

    @given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
    def test_any_bytes(self, data: bytes) -> None:
        """Anything is a command or an InvalidCommand."""
        try:
            parse_command(data, 0)
        except InvalidCommand as error:
            self.assertIn("; expected ", str(error))

    @given(
        st.sampled_from(
            ["id", "device", "command", "params", "ttl", "timeout", "reply_to", "issued_by", "batch"]
        ),
        JSON,
    )
    def test_any_field(self, field: str, value: Any) -> None:
        """Any value of a field is taken or refused; what is taken can be stored and read again."""
        try:
            command = parse_command(raw(**{field: value}), 3.25)
        except InvalidCommand as error:
            self.assertIn(error.field, (field, "entry"))
        else:
            self.assertEqual(from_queue_entry(to_queue_entry(command)), command)


class CommandTests(SynchronousTestCase):
    def test_storing(self) -> None:
        """A command comes back from a list as it went in, with what is needed to write it."""
        command = parse_command(raw(id="x", params={"password": "888888"}, ttl=9), 1.5)
        self.assertEqual(from_queue_entry(to_queue_entry(command)), command)

    def test_stored_garbage(self) -> None:
        """What to_queue_entry never wrote is refused."""
        for data in (b"", b"{}", raw(), b'{"device":"1","command":"x","created_at":"now"}'):
            self.assertRaises(InvalidCommand, from_queue_entry, data)

    def test_repr_keeps_secrets(self) -> None:
        """Parameters are not in the repr."""
        self.assertNotIn("888888", repr(Command("x", "1", "unlock", {"password": "888888"})))

    def test_masking(self) -> None:
        """Named secrets are masked, within parameters too and however their id is spelt."""
        params = {"pin": "1234", "parameters": {"0012": "apn", "0x0012": "b", "0001": 60}, "n": 1}
        command = Command("x", "1", "set", params)
        names = frozenset({"pin", "parameters.12"})
        self.assertEqual(
            command.public_params(names),
            {"pin": MASK, "parameters": {"0012": MASK, "0x0012": MASK, "0001": 60}, "n": 1},
        )
        self.assertEqual(command.secret_values(names), {"1234", "apn", "b"})

    def test_masking_without_knowledge(self) -> None:
        """Where nobody knows what is secret, all is."""
        command = Command("x", "1", "set", {"a": {"b": ["c", 7]}})
        self.assertEqual(command.public_params(None), {"a": MASK})
        self.assertEqual(command.secret_values(None), {"c", "7"})

    def test_names_that_speak_for_themselves(self) -> None:
        """A parameter called password is masked even if a profile forgets to say so."""
        command = Command("x", "1", "set", {"old_password": "888888"})
        self.assertEqual(command.public_params(frozenset()), {"old_password": MASK})

    def test_states(self) -> None:
        """Four states are on the way, ten are ends."""
        self.assertEqual(
            {state.value for state in CommandState} - {state.value for state in ENDED},
            {"queued", "waiting", "sent", "acknowledged"},
        )
        self.assertEqual(len(ENDED), 10)

    def test_catalogue(self) -> None:
        """Each name has one line about it."""
        for name, line in CATALOGUE.items():
            self.assertRegex(name, "^[a-z_]+$")
            self.assertTrue(line.endswith("."))
        self.assertLess(set(LOCAL_COMMANDS), set(CATALOGUE))

    def test_about(self) -> None:
        """A complaint can be given the command it is about."""
        error = InvalidCommand("params.x", "is 1", "2").about(Command("i", "1", "unlock", reply_to="r"))
        self.assertEqual(
            (error.command_id, error.device, error.command, error.reply_to), ("i", "1", "unlock", "r")
        )
        self.assertEqual(str(error), "params.x: is 1; expected 2")
