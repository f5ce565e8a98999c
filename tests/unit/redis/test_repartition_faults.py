"""A move of keys is interrupted anywhere, or somebody writes meanwhile: nothing is lost or there twice."""

from collections.abc import Callable, Sequence
from typing import Any

from jt709c_gateway.redis.repartition.move import Move, Phase
from jt709c_gateway.redis.repartition.stores import MoveError, Store
from jt709c_gateway.redis.repartition.switch import Switch
from tests.support.repartition import (
    DEVICES,
    Died,
    after_passing,
    content,
    finish,
    move,
)
from tests.support.repartition_case import MoveCase


class Mortal:
    """Counts calls, and dies at the one with this number."""

    def __init__(self, last: int | None = None) -> None:
        self.calls = 0
        self._last = last

    def __call__(self, _: Sequence[Any]) -> None:
        self.calls += 1
        if self._last is not None and self.calls >= self._last:
            raise Died


class DeathTests(MoveCase):
    def sides(
        self, before: int, after: int, mortal: Callable[[Sequence[Any]], object]
    ) -> tuple[Store, Store]:
        return self.store(before, before_call=mortal), self.store(after, before_call=mortal)

    def forget_lease(self, before: Store) -> None:
        """As after its time."""
        self.clients[0].call("DEL", before.places[0].ours.lease)

    def attempt(self, before: int, after: int, last: int) -> bool:
        """Move until the process dies at this call; return whether it ended before."""
        sides = self.sides(before, after, Mortal(last))
        try:
            move(*sides)
        except Died:
            self.forget_lease(sides[0])
            return False
        return True

    def calls(self, before: int, after: int) -> int:
        """The number of calls of a move that is not interrupted."""
        mortal = Mortal()
        self.begin_anew()
        self.filled(before)
        move(*self.sides(before, after, mortal))
        return mortal.calls

    def check_deaths(self, before: int, after: int, step: int) -> None:
        total = self.calls(before, after)
        deaths = 0
        for last in (*range(1, total, step), *range(total - 40, total, 2)):
            self.begin_anew()
            wanted = after_passing(content(self.filled(before), self.clients))
            deaths += not self.attempt(before, after, last)
            move(self.store(before), self.store(after))
            self.check(wanted, self.store(after))
            left = self.clients[0].call("KEYS", f"{self.prefix}*repartition*")
            self.assertEqual(left, [], last)
        self.assertGreater(deaths, 30)

    def test_more(self) -> None:
        self.check_deaths(1, 3, 41)

    def test_fewer(self) -> None:
        """Some partitions are no more, and others get other keys under the same prefix."""
        self.check_deaths(4, 3, 53)

    def test_often(self) -> None:
        """It dies again and again, and gets a little further each time."""
        wanted = after_passing(content(self.filled(3), self.clients))
        attempts, last = 1, 30
        while not self.attempt(3, 4, last):
            attempts, last = attempts + 1, last + 29
        self.assertGreater(attempts, 8)
        self.check(wanted, self.store(4))

    def test_abandoned(self) -> None:
        """While the old keys are there, a move can be given up anywhere, and then they are as before."""
        total = self.calls(2, 3)
        given_up = refused = 0
        for last in (*range(4, total, 41), *range(total - 60, total, 10)):
            self.begin_anew()
            before = self.filled(2)
            wanted = content(before, self.clients)
            self.attempt(2, 3, last)
            try:
                finish(lambda mover: mover.abandon(), before, self.store(3))
            except MoveError as error:
                refused += "can only be brought to its end" in str(error)
                move(before, self.store(3))
                continue
            given_up += 1
            self.assertEqual(content(before, self.clients), wanted)
            self.assertEqual(self.clients[0].call("KEYS", f"{self.prefix}*repartition*"), [])
            self.assertEqual(self.clients[0].call("KEYS", f"{self.prefix}:{{2}}:*"), [])
            markers = [self.clients[0].call("GET", place.keys.partitions) for place in before.places]
            self.assertEqual(markers, [b"2", b"2"])
        self.assertGreater(given_up, 5)
        self.assertGreater(refused, 1)

    def test_other_options(self) -> None:
        """What has begun goes on with the same options only."""
        before = self.filled(2)
        self.attempt(2, 3, 150)
        text = self.refusal(before, self.store(4))
        self.assertIn("a move from 2 to 3 partitions", text)
        self.assertIn("give --from 2 --to 3", text)
        self.assertIn("has begun", self.refusal(before, self.store(3, f"{self.prefix}x")))
        self.assertIn("has begun", self.refusal(before, self.store(3, servers="redis://b")))
        move(before, self.store(3))

    def test_suspended(self) -> None:
        """A process that was suspended while another one ended the move can't delete anything."""
        before, after = self.filled(2), self.store(3)
        late = Move(before, after, "late", Phase.DELETE)
        self.attempt(2, 3, 200)
        identity = self.clients[0].call("HGET", before.places[0].ours.record, "id").decode()
        late.id = identity
        wanted = after_passing(content(before, self.clients, moving=True))
        move(before, after)
        for work in (Switch(late).delete, Switch(late).rename):
            error = self.assertRaises(MoveError, finish, lambda _, work=work: work(), before, after)
            self.assertIn("another process goes on", str(error))
            late.phase = Phase.RENAME
            self.clients[0].call("SET", after.places[0].copied(b"device:1"), "x")
        self.clients[0].call("DEL", after.places[0].copied(b"device:1"))
        self.check(wanted, after)

    def test_two_at_once(self) -> None:
        """A second process waits, and then refuses while the first one lives."""
        before = self.filled(2)
        self.clients[0].call("SET", before.places[0].ours.lease, "another", "PX", 600_000)
        self.assertIn("another process moves these keys", self.refusal(before, self.store(3)))


class ChangeTests(MoveCase):
    """Somebody writes to the old keys between the copy and the comparison."""

    def changed(self, *commands: Sequence[Any]) -> None:
        """The move refuses, and run again moves what is there now."""
        self.begin_anew()
        before = self.filled(1)
        written: list[Any] = []

        def change(command: Sequence[Any]) -> None:
            if command[0] == "HSET" and command[-1] == Phase.VERIFY and not written:
                for number, (name, key, *rest) in enumerate(commands):
                    written.append(self.clients[0].call(name, f"{self.prefix}:{key}", *rest) or number)

        after = self.store(3, before_call=change)
        error = self.assertRaises(MoveError, move, before, after)
        self.assertTrue(written, commands)
        self.assertIn("meanwhile", str(error))
        wanted = after_passing(content(before, self.clients, moving=True))
        move(before, after)
        self.check(wanted, after)

    def test_keys(self) -> None:
        """Keys that are copied whole."""
        device = DEVICES[0]
        self.changed(
            ("HSET", f"device:{device}", "seen", "later"), ("HSET", f"device:{DEVICES[1]}", "n", "x")
        )
        self.changed(("HSET", "device:99", "seen", "new"))
        self.changed(("HSET", f"label:{device}", "name", "Truck 13"))
        self.changed(("DEL", f"history:{device}"))
        self.changed(("RPUSH", f"track:{device}", "[new]"))
        self.changed(("PERSIST", f"secret:{device}"))
        self.changed(("SET", f"recent:{device}", "x"))
        self.changed(("XADD", f"history:{device}", "*", "event", "new"))
        self.changed(("HSET", "command:cmd-3", "state", "acknowledged"))
        self.changed(("HSET", "command:cmd-3", "device", DEVICES[7]))
        self.changed(("ZINCRBY", f"peripherals:{device}", 1, "0000000000"))

    def test_shared_keys(self) -> None:
        """Keys that are divided."""
        device = DEVICES[0]
        self.changed(("ZADD", "devices", 1, "99"))
        self.changed(("ZREM", "histories", device))
        self.changed(("ZADD", "commands:deadlines", 1.8e9, "cmd-1"))
        self.changed(("SADD", "allowed", "99"))
        self.changed(("SADD", "labels", "99"))
        self.changed(("SREM", "sessions:gw1", device))
        self.changed(("HSET", "imei", "860000000000000", device))
        self.changed(("HSET", "commands:underway:gw1", "cmd-1", "other"))
        self.changed(("HDEL", "commands:underway:gw1", "cmd-1"))

    def test_streams_and_lists(self) -> None:
        self.changed(("XADD", "events", "*", "kind", "lock", "device", DEVICES[0], "event", "new"))
        self.changed(("XADD", "malformed", "*", "raw", "new"))
        self.changed(("XTRIM", "events", "MAXLEN", "=", 3))
        self.changed(("LPUSH", "commands:invalid", "new"))
        self.changed(("SET", "epoch", 17))
        self.changed(("SADD", "gateways", "gw9"))

    def test_expired(self) -> None:
        """That keys expire is no change."""
        before, after = self.filled(1), self.store(3)

        def expire(command: Sequence[Any]) -> None:
            if command[0] == "HSET" and command[-1] == Phase.VERIFY:
                for one in (before.places[0], *after.places):
                    key = one.key(name) if one is before.places[0] else one.copied(name)
                    self.clients[0].call("PEXPIRE", key, 1)

        name = f"session:{DEVICES[0]}".encode()
        move(before, self.store(3, before_call=expire))
        self.assertEqual(len(self.clients[0].call("KEYS", f"{self.prefix}:*:session:*")), len(DEVICES) - 1)
