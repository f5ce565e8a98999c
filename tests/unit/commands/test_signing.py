"""Signed commands without a gateway: reading them, checking them, and how they lie in Redis."""

import base64
import hmac
import json
import os
import shutil
import subprocess
import textwrap
import time
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import Command, InvalidCommand, parse_command
from jt709c_gateway.commands.serialization import (
    from_queue_entry,
    queue_entry_id,
    to_queue_entry,
    to_wire,
)
from jt709c_gateway.commands.signature import mac
from jt709c_gateway.commands.signing import CommandRefused, RefusalReason, SigningKey, SigningKeys
from jt709c_gateway.commands.sublocks import redirect_to_master
from tests.support import ROOT
from tests.support.signing import SECRET, command_text, sign, vectors

NOW = 1_764_000_000.0
DEVICE = "794308010679"
KEY = SigningKey("k1", SECRET)
KEYS = SigningKeys({"k1": KEY})


def text(**more: Any) -> str:
    """An unlock command signed at NOW."""
    fields = {"id": "7f3c", "issued_at": NOW, **more}
    return command_text(fields.pop("device", DEVICE), fields.pop("command", "unlock"), **fields)


def read(entry: bytes) -> Command:
    return parse_command(entry, NOW)


class VectorTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """Each text of docs/commands.rst has its mac, and is a command that is taken."""
        self.assertEqual(len(vectors()), 3)
        for vector in vectors():
            secret = vector["secret"]
            key = bytes.fromhex(secret) if len(secret) == 64 else base64.b64decode(secret)
            self.assertEqual(mac(key, vector["order"]), vector["mac"])
            entry = json.dumps({name: vector[name] for name in ("key", "mac", "order")}).encode()
            SigningKeys({"k1": SigningKey("k1", key)}).check_new(read(entry), NOW + 1)

    def test_documentation(self) -> None:
        """The vectors stand in the documentation, to the letter."""
        page = ROOT.joinpath("docs", "commands.rst").read_text(encoding="utf-8")
        for vector in vectors():
            shown = [*vector["order"].split("\n"), vector["mac"]]
            self.assertIn("\n".join(f"    {line}" for line in shown), page)

    def test_programs_of_the_documentation(self) -> None:
        """The shell's lines and Python's make an entry that is taken."""
        page = ROOT.joinpath("docs", "commands.rst").read_text(encoding="utf-8")
        python = textwrap.dedent(page.partition("In Python, Node and PHP::\n\n")[2].partition("\n\n")[0])
        command = {"id": "c1", "device": "1", "command": "locate", "issued_at": NOW}
        names = {"json": json, "hmac": hmac, "command": command, "secret": b"sixteen bytes ok"}
        exec(python, names)
        check = SigningKeys({"k1": SigningKey("k1", b"sixteen bytes ok")}).check_new
        check(read(names["entry"].encode()), NOW)
        shell = textwrap.dedent(page.partition("In a\nshell::\n\n")[2].partition("\n\n")[0])
        if not all(map(shutil.which, ("openssl", "jq"))):
            return
        shell = shell.replace("$(uuidgen)", "c2").replace(" | redis-cli -x RPUSH jt709c:commands", "")
        said = subprocess.run(
            ["bash", "-c", shell],
            env={**os.environ, "SECRET_IN_HEX": b"sixteen bytes ok".hex()},
            capture_output=True,
            check=True,
        )
        check(read(said.stdout.strip()), time.time())


class ReadTests(SynchronousTestCase):
    def refused(self, entry: bytes) -> InvalidCommand:
        return self.assertRaises(InvalidCommand, read, entry)

    def test_what_is_read(self) -> None:
        """The fields are those of the text; it was created when it was signed."""
        command = parse_command(sign(text(command="unseal", ttl=60, issued_by="night shift")), NOW + 50)
        self.assertEqual((command.id, command.device, command.name), ("7f3c", DEVICE, "unlock"))
        self.assertEqual((command.ttl, command.created_at, command.issued_by), (60, NOW, "night shift"))
        assert command.signature is not None
        self.assertEqual((command.signature.key, command.signature.command), ("k1", "unlock"))

    def test_capitals(self) -> None:
        """A mac in capitals is as good."""
        entry = json.loads(sign(text()))
        KEYS.check_new(read(json.dumps({**entry, "mac": entry["mac"].upper()}).encode()), NOW)

    def test_mistakes(self) -> None:
        """What is missing or wrong is named; neither the mac nor what was signed is quoted."""
        good = json.loads(sign(text()))
        for change, pattern in (
            ({"mac": None}, "^mac: is null; expected an HMAC-SHA256"),
            ({"mac": "x" * 64}, "^mac: is text of 64 characters; expected an HMAC-SHA256"),
            ({"mac": good["mac"][:-1]}, "^mac: is text of 63 characters; expected"),
            ({"mac": good["mac"] + "\n"}, "^mac: is text of 65 characters; expected"),
            ({"key": "a b"}, "^key: is text of 3 characters; expected the id of a key"),
            ({"order": {"params": {"password": "888888"}}}, "^order: is an object of 1 field; expected "),
            ({"order": "[1]"}, "^order: is a list; expected a JSON object"),
            ({"order": "{"}, "^order: not JSON"),
            ({"order": text(id=None)}, "^id: is null; expected 1 to 64"),
            ({"order": text(issued_at="now")}, "^issued_at: .*expected seconds since 1970"),
            ({"order": text(issued_at=1e12)}, "^issued_at: .*expected seconds since 1970"),
            ({"order": text(issued_at=-1)}, "^issued_at: .*expected seconds since 1970"),
            ({"order": text(created_at=NOW)}, r"^order: unknown field 6 \(a name of 10 characters\)"),
            ({"device": DEVICE}, r"^entry: unknown field 4 \(a name of 6 characters\); expected only key"),
        ):
            error = self.refused(json.dumps({**good, **change}).encode())
            self.assertRegex(str(error), pattern)
            self.assertNotIn("888888", str(error))
            self.assertNotIn(good["mac"][:-1], str(error))
        for name in good:
            error = self.refused(json.dumps({**good, name: None, "id": 5} | {"id": "x"}).encode())
            self.assertEqual(error.command_id, "x")
        without = {name: good[name] for name in ("key", "mac")}
        self.assertRegex(str(self.refused(json.dumps(without).encode())), "^order: missing; expected")

    def test_surrogate(self) -> None:
        """A text that has no UTF-8 is refused."""
        self.refused(b'{"key":"k1","mac":"' + b"0" * 64 + b'","order":"{\\ud800}"}')

    def test_what_can_be_told(self) -> None:
        """Whose command it was, and of which key, is told where it can be read."""
        error = self.refused(sign(text(ttl=-1, reply_to="me")))
        self.assertEqual((error.command_id, error.device, error.command), ("7f3c", DEVICE, "unlock"))
        self.assertEqual((error.reply_to, error.key), ("me", "k1"))
        error = self.refused(sign("{", key="k1"))
        self.assertEqual((error.command_id, error.key), (None, "k1"))

    def test_batch_is_signed(self) -> None:
        """The batch is part of the signed text; without one the text is that of earlier versions."""
        command = parse_command(sign(text(batch="night-1")), NOW)
        self.assertEqual(
            (command.batch, from_queue_entry(to_queue_entry(command)).batch), ("night-1", "night-1")
        )
        key = SigningKey("k1", b"x" * 16)
        for batch in (None, "night-1"):
            signed = json.loads(to_wire(attrs.evolve(command, batch=batch, signature=None), key, NOW))
            self.assertEqual(json.loads(signed["order"]).get("batch", None), batch)
            self.assertEqual("batch" in signed["order"], batch is not None)

    def test_unsigned_has_no_time(self) -> None:
        """Only a signed command says when it was issued."""
        error = self.refused(text().encode())
        self.assertIn("unknown field 2 (a name of 9 characters, near issued_by)", str(error))


class CheckTests(SynchronousTestCase):
    def refusal(
        self, entry: bytes, why: RefusalReason, keys: SigningKeys = KEYS, now: float = NOW
    ) -> CommandRefused:
        error = self.assertRaises(CommandRefused, keys.check_new, read(entry), now)
        self.assertEqual(error.why, why)
        return error

    def keys(self, **limits: Any) -> SigningKeys:
        return SigningKeys({"k1": attrs.evolve(KEY, **limits)})

    def test_good(self) -> None:
        KEYS.check_new(read(sign(text())), NOW)

    def test_unsigned(self) -> None:
        """Where there are keys every command needs one, whatever it is; where there are none, none does."""
        for command in ("unlock", "cancel", "clear_lockout", "raw", "locate"):
            entry = json.dumps({"device": DEVICE, "command": command, "params": {"id": "x"}}).encode()
            error = self.refusal(entry, RefusalReason.UNSIGNED)
            self.assertEqual(error.command, command)
            SigningKeys().check_new(read(entry), NOW)
        SigningKeys().check_new(read(sign(text(), secret=b"another")), NOW)

    def test_unknown_key(self) -> None:
        error = self.refusal(sign(text(), key="k9"), RefusalReason.UNKNOWN_KEY)
        self.assertRegex(str(error), "^key: is text of 2 characters, and not known; expected the id of a key")

    def test_wrong_secret(self) -> None:
        error = self.refusal(sign(text(), secret=SECRET[::-1]), RefusalReason.WRONG_MAC)
        self.assertRegex(str(error), "^mac: does not fit; expected the HMAC-SHA256 .* secret of k1$")

    def test_window(self) -> None:
        """From a minute before it was signed, by a clock that is ahead, to the end of the window."""
        entry = sign(text())
        keys = SigningKeys({"k1": KEY}, window=10.0)
        for now in (NOW - 60, NOW, NOW + 10):
            keys.check_new(read(entry), now)
        error = self.refusal(entry, RefusalReason.TOO_OLD, keys, NOW + 10.1)
        self.assertRegex(str(error), "^issued_at: it was signed 10 s ago; expected .* within 10 s$")
        self.refusal(entry, RefusalReason.FROM_THE_FUTURE, keys, NOW - 60.1)
        self.refusal(entry, RefusalReason.TOO_OLD, SigningKeys(window=10.0), NOW + 11)
        # What has been taken in may wait for its lock.
        keys.check(read(entry), NOW + 200)
        self.assertRaises(CommandRefused, keys.check, read(entry), NOW - 61)

    def test_validity(self) -> None:
        keys = self.keys(not_before=NOW - 10, not_after=NOW + 10)
        entry = sign(text())
        for now in (NOW - 10, NOW + 9.9):
            keys.check_new(read(entry), now)
        self.assertIn(
            "k1 is not valid yet", str(self.refusal(entry, RefusalReason.KEY_NOT_VALID, keys, NOW - 11))
        )
        error = self.refusal(entry, RefusalReason.KEY_NOT_VALID, keys, NOW + 10)
        self.assertIn("no longer valid; expected its use before 2025-11-24T16:00:10.000000Z", str(error))

    def test_commands(self) -> None:
        """What a key may command; an alias is what it stands for."""
        keys = self.keys(commands=frozenset(["unlock", "cancel"]))
        for command in ("unlock", "unseal", "cancel"):
            keys.check_new(read(sign(text(command=command))), NOW)
        error = self.refusal(sign(text(command="raw")), RefusalReason.NOT_PERMITTED, keys)
        self.assertIn("raw is not permitted to key k1; expected cancel, unlock", str(error))
        self.refusal(sign(text()), RefusalReason.NOT_PERMITTED, self.keys(commands=frozenset()))

    def test_devices(self) -> None:
        """Which devices it may name, by id or by how the id begins; leading zeros don't count."""
        keys = self.keys(devices=frozenset([DEVICE, "04A1B2C3D4"]), prefixes=("86728",))
        for device in (DEVICE, f"00{DEVICE}", "867284063211238", "04a1b2c3d4"):
            keys.check_new(read(sign(text(device=device))), NOW)
        for device in ("794308010678", f"{DEVICE}0", "186728", "4A1B2C3D40"):
            self.refusal(sign(text(device=device)), RefusalReason.NOT_PERMITTED, keys)
        self.assertTrue(keys.limits_devices(read(sign(text()))))
        self.assertFalse(KEYS.limits_devices(read(sign(text()))))

    def test_sublock_at_its_master(self) -> None:
        """What was signed counts, not what its master is told."""
        keys = self.keys(commands=frozenset(["unlock"]), devices=frozenset(["04A1B2C3D4"]))
        moved = redirect_to_master(read(sign(text(device="04A1B2C3D4"))), DEVICE, "id")
        self.assertEqual(moved.name, "sublock_unlock")
        keys.check(moved, NOW)

    @given(st.data())
    def test_any_other_text_is_refused(self, data: st.DataObject) -> None:
        """Change, leave out or add any byte of what was signed, or of the mac: it is not taken."""
        entry = json.loads(sign(text(params={"password": "888888"}, issued_by="me")))
        field = data.draw(st.sampled_from(["order", "mac"]))
        signed = entry[field].encode()
        at = data.draw(st.integers(0, len(signed) - 1))
        byte = bytes([data.draw(st.integers(32, 126))])
        changed = data.draw(
            st.sampled_from([signed[:at] + byte + signed[at + 1 :], signed[:at] + signed[at + 1 :]])
            | st.just(signed[:at] + byte + signed[at:])
        ).decode()
        if (changed.lower() if field == "mac" else changed) == entry[field]:
            return
        try:
            command = read(json.dumps({**entry, field: changed}).encode())
        except InvalidCommand:
            return
        self.assertRaises(CommandRefused, KEYS.check_new, command, NOW)

    @given(st.binary(min_size=16, max_size=64).filter(lambda other: other != SECRET))
    def test_any_other_secret_is_refused(self, secret: bytes) -> None:
        self.refusal(sign(text(), secret=secret), RefusalReason.WRONG_MAC)


class WaitingTests(SynchronousTestCase):
    """How a signed command lies in Redis."""

    def test_comes_back(self) -> None:
        """It comes back as it went in, at its device, with what was signed and nothing of it beside."""
        command = read(sign(text(params={"password": "888888"}, device="867284063211238")))
        at_device = attrs.evolve(command, device=DEVICE)
        waiting = to_queue_entry(at_device)
        self.assertEqual(from_queue_entry(waiting), at_device)
        self.assertEqual(set(json.loads(waiting)), {"id", "device", "key", "mac", "order"})
        self.assertEqual(queue_entry_id(waiting), "7f3c")

    def test_sublock(self) -> None:
        """So does one for a sub-lock, which is another command at its master."""
        moved = redirect_to_master(read(sign(text(device="04A1B2C3D4"))), DEVICE, "id")
        self.assertEqual(from_queue_entry(to_queue_entry(moved)), moved)
        self.assertEqual(moved.params, {"id": "04A1B2C3D4"})

    def test_unsigned_is_as_it_was(self) -> None:
        """An unsigned command carries nothing of signatures, so that gateways of before can read it."""
        command = parse_command(json.dumps({"device": DEVICE, "command": "unlock"}).encode(), NOW)
        self.assertNotIn("signature", json.loads(to_queue_entry(command)))
        self.assertEqual(from_queue_entry(to_queue_entry(command)), command)

    def test_unsigned_copies_are_refused(self) -> None:
        """Nothing beside the text can say what is to be written."""
        good = json.loads(to_queue_entry(read(sign(text()))))
        for change in (
            {"command": "unlock"},
            {"params": {}},
            {"id": "another"},
            {"device": "a:b"},
            {"key": "a b"},
            {"mac": "ä" * 64},
            {"issued_at": NOW},
            {"created_at": NOW},
            {"order": good["order"].encode().hex()},
        ):
            self.assertRaises(InvalidCommand, from_queue_entry, json.dumps({**good, **change}).encode())

    def test_only_a_sublock_is_moved(self) -> None:
        """A command for a lock can't be made one for a sub-lock."""
        waiting = {**json.loads(to_queue_entry(read(sign(text())))), "sublock_parameter": "id"}
        command = from_queue_entry(json.dumps(waiting).encode())
        self.assertEqual((command.name, command.params), ("unlock", {}))

    @given(st.binary(max_size=100) | st.text(max_size=40).map(lambda value: json.dumps(value).encode()))
    def test_garbage(self, raw: bytes) -> None:
        self.assertRaises(InvalidCommand, from_queue_entry, raw)
        queue_entry_id(raw)
