"""The last look at a signed command before it is written, and the memory of what was written."""

from types import SimpleNamespace
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command, parse_command
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.signing import CommandRefused, RefusalReason, SigningKey, SigningKeys
from jt709c_gateway.commands.sublocks import redirect_to_master
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer, Written
from tests.support.signing import SECRET, command_text, sign

NOW = 1_764_000_000.0
MASTER = "794308010679"
SUBLOCK = "04A1B2C3D4"
PROFILES = load_profiles()


def command(device: str = MASTER, **more: Any) -> Command:
    text = command_text(device, more.pop("command", "unlock"), **{"id": "x", "issued_at": NOW, **more})
    return parse_command(sign(text), NOW)


def run(given: Command, profile: str = "jt709") -> CommandExecution:
    """The command in the form that a lock with this profile gets."""
    return CommandExecution(given, PROFILES.validate(given, PROFILES.profiles[profile]).spec)


def session(device: str = MASTER, imei: str | None = None) -> Any:
    return SimpleNamespace(device=device, imei=imei)


class WrittenTests(SynchronousTestCase):
    def test_forgets_when_over(self) -> None:
        """A minute after a command's ttl has ended, and not before."""
        written = Written(limit=2)
        written.note(command(id="a", ttl=10))
        written.note(command(id="b", ttl=20))
        written.note(command(id="b", ttl=20))
        self.assertEqual([written.times(one) for one in "abc"], [1, 2, 0])
        self.assertFalse(written.has_room(NOW + 69))
        self.assertTrue(written.has_room(NOW + 70))
        self.assertEqual([written.times(one) for one in "abc"], [0, 2, 0])
        written.note(command(id="c", ttl=10))
        self.assertFalse(written.has_room(NOW + 69))
        self.assertTrue(written.has_room(NOW + 1000))


class AuthorityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.authority = CommandAuthorizer(SigningKeys({"k1": SigningKey("k1", SECRET)}), Written(limit=2))

    def refused(self, why: RefusalReason, check: Any, *arguments: Any) -> None:
        self.assertEqual(self.assertRaises(CommandRefused, check, *arguments).why, why)

    def test_its_lock(self) -> None:
        """By its id, or by the IMEI that it has said itself; by nothing that Redis says."""
        check = self.authority.check_waited
        check(run(command()), session(), NOW)
        check(run(command(f"00{MASTER}")), session(), NOW)
        moved = attrs.evolve(command("867284063211238"), device=MASTER)
        check(run(moved), session(imei="867284063211238"), NOW)
        for other in (session(), session(imei="867284063211239")):
            self.refused(RefusalReason.OTHER_DEVICE, check, run(moved), other, NOW)

    def test_its_sublock(self) -> None:
        """At whichever master it is; the form that the master gets must be for this sub-lock."""
        moved = redirect_to_master(command(SUBLOCK), MASTER, "id")
        one = run(moved, "jt701")
        self.authority.check_waited(one, session(), NOW)
        self.authority.check_form(one, NOW)
        one.peripheral = "04A1B2C3D5"
        self.refused(RefusalReason.OTHER_DEVICE, self.authority.check_form, one, NOW)

    def test_once(self) -> None:
        """A physical command once, another as often as its profile repeats it."""
        for given in (command(), command(id="y", command="locate")):
            one = run(given)
            for _ in range(one.allowed_writes):
                self.authority.check_form(one, NOW)
                self.authority.note_written(given)
            self.refused(RefusalReason.REPLAYED, self.authority.check_form, one, NOW)

    def test_full(self) -> None:
        """No command is written that can't be remembered; those that are over make room."""
        for name in "ab":
            self.authority.note_written(command(id=name))
        self.refused(RefusalReason.FULL, self.authority.check_form, run(command()), NOW)
        self.authority.check_form(run(command()), NOW + 1000)

    def test_without_keys(self) -> None:
        """Nothing is asked of commands, and nothing remembered."""
        authority = CommandAuthorizer()
        for given in (command(), Command("x", "1", "unlock")):
            authority.check_waited(run(given), session("5"), NOW)
            authority.note_written(given)
            authority.check_form(run(given), NOW)
        self.assertEqual(authority.written.times("x"), 0)
