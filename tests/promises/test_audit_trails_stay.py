"""An audit trail is never deleted to make room for a device without one."""

import time
from datetime import UTC, datetime
from typing import Any

from jt709c_gateway.protocol import jt709
from jt709c_gateway.protocol.jt808 import encode
from jt709c_gateway.redis.commit_records import EventsRecord
from jt709c_gateway.redis.committer import Limits
from tests.support.command_bench import BenchTestCase
from tests.support.commands import UNLOCKED, lock_event
from tests.unit.redis.test_commit_script import CARD, LOW_BATTERY, ScriptCase, report

_OURS = "794308010679"
_MADE_UP = 600000000000


class TrailTests(ScriptCase):
    """Five locks and five audit trails are kept."""

    limits = Limits(devices=5, histories=5)

    def come(self, number: int, **said: Any) -> str:
        """An unknown device reports; return its id."""
        # Trails made in one millisecond have the same age.
        time.sleep(0.002)
        device = str(_MADE_UP + number)
        self.commit(report(wire=bytes.fromhex(device), **said))
        return device

    def give(self, device: str, state: str = "queued") -> None:
        """Push a command for a device."""
        event = ("command", f'{{"state":"{state}"}}')
        self.script.commit([EventsRecord(device=device, events=[event])])

    def trails(self) -> set[str]:
        """Return the devices that have an audit trail."""
        start = f"{self.keys.prefix}:history:"
        return {key.decode().removeprefix(start) for key in self.client.call("KEYS", f"{start}*")}

    def known(self) -> set[str]:
        """Return the devices whose last state is stored."""
        return {one.decode() for one in self.client.call("ZRANGE", self.keys.devices, 0, -1)}

    def let_go(self) -> dict[str, str]:
        """Return the number of removals by kind."""
        return self.script.hash(self.keys.let_go)

    def test_made_up_ids_that_only_report(self) -> None:
        """They replace each other: trail and last state of the lock stay, however long it is silent."""
        self.commit(report(items=CARD))
        before = self.device()
        for number in range(60):
            self.come(number)
        self.assertEqual(self.trails(), {_OURS})
        self.assertEqual(self.device(), before)
        self.assertEqual(len(self.known()), 5)
        self.assertEqual(self.let_go(), {"devices": "56"})

    def test_made_up_ids_with_alarms_and_lock_events(self) -> None:
        """A new trail replaces no trail of the same or a higher rank."""
        self.commit(report(items=CARD))
        for number, said in enumerate((CARD, CARD, b"", b"")):
            self.come(number, items=said, alarm_bits=LOW_BATTERY)
        first = self.trails()
        self.assertEqual(len(first), 5)
        for number in range(10, 30):
            self.come(number, alarm_bits=LOW_BATTERY)
        self.assertEqual(self.trails(), first)
        for number in range(30, 50):
            self.come(number, items=CARD)
        # Trails with alarms only are replaced; the first trails with lock events stay.
        self.assertEqual(
            self.trails(),
            {_OURS, *(str(_MADE_UP + number) for number in (0, 1, 30, 31))},
        )
        self.assertEqual(int(self.let_go()["histories"]), 40)

    def test_commands_for_made_up_ids(self) -> None:
        """Commands for made-up ids replace no trail of a lock, whatever is in that."""
        self.commit(report(serial=1, alarm_bits=LOW_BATTERY))
        for number in range(40):
            self.give(f"made-up-{number}")
        self.assertIn(_OURS, self.trails())
        self.assertEqual(len(self.trails()), 5)
        for number in range(4):
            self.come(number, alarm_bits=LOW_BATTERY)
        self.assertEqual(self.trails(), {_OURS, *(str(_MADE_UP + number) for number in range(4))})

    def test_a_lock_with_commands_goes_last(self) -> None:
        """A lock with its first command replaces one that has only alarms."""
        self.script.limits = Limits(devices=50, histories=5)
        self.commit(report(items=CARD))
        for number in range(4):
            self.come(number, items=CARD)
        late = self.come(10)
        self.give(late)
        self.assertEqual(self.trails(), {_OURS, late, *(str(_MADE_UP + number) for number in range(3))})

    def test_the_trail_outlives_the_last_state(self) -> None:
        """Where all locks have a trail, the least recently seen states are removed, and their trails stay."""
        self.script.limits = Limits(devices=5, histories=50)
        devices = [self.come(number, items=CARD) for number in range(12)]
        self.assertEqual(self.trails(), set(devices))
        self.assertEqual(self.known(), set(devices[-5:]))

    def test_a_lock_without_a_trail_that_was_heard_just_now(self) -> None:
        """It is not removed: it may repeat its last reports."""
        for number in range(5):
            self.come(number, items=CARD)
        self.teller.wall = datetime.now(UTC)
        late = self.come(10)
        self.assertIn(late, self.known())
        self.assertNotIn(str(_MADE_UP), self.known())
        self.assertIn(str(_MADE_UP), self.trails())

    def test_trails_from_before_there_was_a_limit(self) -> None:
        """Old trails count when an event is added to them, and stay until then."""
        self.client.call("XADD", self.keys.history(_OURS), "*", "kind", "lock")
        for number in range(20):
            self.come(number, items=CARD)
        self.assertIn(_OURS, self.trails())


class CommandTests(BenchTestCase):
    """Audit trails of commands, by the scripts that take them in and end them."""

    def ranked(self) -> dict[str, float]:
        """Return the ranks of the audit trails, lowest first."""
        flat = self.client.redis.call("ZRANGE", self.client.key("histories"), 0, -1, "WITHSCORES")
        return {device.decode(): float(score) for device, score in zip(flat[::2], flat[1::2], strict=True)}

    def test_every_trail_has_a_place(self) -> None:
        """Commands for unknown ids rank below all locks; a lock with commands ranks above one without."""
        self.node.feed(
            self.node.link(), encode(0x0200, bytes.fromhex("600000000001"), 1, _location(lock_event()))
        )
        self.come()
        self.node.pass_time(0.5)
        for device in ("made-up", "600000000009", self.device):
            self.client.command(device, "locate", ttl=2)
        self.node.pass_time(5)
        places = self.ranked()
        start = self.client.key("history", "")
        trails = {key.decode().removeprefix(start) for key in self.client.redis.call("KEYS", f"{start}*")}
        self.assertEqual(set(places), trails)
        command = sorted(places, key=lambda device: places[device])
        self.assertEqual(command[-2:], ["600000000001", self.device])


def _location(items: bytes) -> bytes:
    from tests.vectors import location

    return location(items, status=UNLOCKED | jt709.STATUS_FIX)
