"""Invariants of the fencing model: during faults, and after everything has recovered."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

from attrs import define

from jt709c_gateway.commands.model import ENDED
from tests.support import RedisError
from tests.support.commands import EDGES
from tests.support.fencing_world import NAMES, PushedCommand, World

#: Seconds within which everything ends without faults.
PATIENCE: Final = 240
NOT_WRITTEN: Final = frozenset({"failed", "expired", "cancelled", "invalid"})
WRITTEN: Final = frozenset({"sent", "acknowledged", "unconfirmed", "confirmed"})
OPEN: Final = frozenset({"uncertain", "unconfirmed"})


@define(eq=False)
class CheckedWorld(World):
    """A world that checks its invariants, at any moment and after it has recovered."""

    def check(self) -> None:
        """Check the invariants that hold at any moment."""
        for unit in self.units:
            unit.collect()
        for one in self.pushed.values():
            count = self.writes(one)
            assert count <= 1, f"{one.id} was written {count} times"
            with contextlib.suppress(RedisError):
                self._check_state(one, self.client.record(one.id), count)

    def _check_state(self, one: PushedCommand, record: dict[str, str], count: int) -> None:
        state = record.get("state", "")
        if one.state in ENDED and state:
            confirmed = one.state in OPEN and state == "confirmed"
            assert state == one.state or confirmed, f"{one.id} was {one.state} and is {record}"
        one.state = state or one.state
        if one.physical:
            assert not (count and state in NOT_WRITTEN), f"{one.id} was written and is {record}"
            assert count or state not in WRITTEN, f"{one.id} was not written and is {record}"

    def check_end(self) -> None:
        """Check the invariants that hold when everything has ended."""
        events = self._events()
        for one in self.pushed.values():
            record = self.client.record(one.id)
            published = events.get(one.id, [])
            state = self._found()
            assert record.get("state") in ENDED, (
                f"{one.id} does not end: {record}, published {published}; {state}"
            )
            self._check_published(one, record, published)
            if one.target is not None and record["state"] == "done":
                target = self.client.record(one.target)
                assert target["state"] == "cancelled", f"{one.id} has taken back {target}"
        assert self.client.under_way() == [], f"under way: {self.client.under_way()}"
        for gateway in self.gateways:
            assert gateway.dispatcher.context.claims.tokens == {}, (
                f"{gateway.name} holds {gateway.dispatcher.context.claims.tokens}"
            )
            executors = gateway.dispatcher.executors.values()
            assert all(one.session is not None and not one.busy for one in executors), list(executors)
        self._check_reports()

    def _found(self) -> str:
        """Return the contents of Redis for a failure message."""
        redis, found = self.client.redis, []
        for pattern in ("commands*", "gateway*", "session*", "epoch"):
            for key in redis.call("KEYS", self.key(pattern)):
                kind = redis.call("TYPE", key)
                read = {b"list": ("LRANGE", 0, -1), b"hash": ("HGETALL",), b"set": ("SMEMBERS",)}
                read |= {b"zset": ("ZRANGE", 0, -1), b"string": ("GET",)}
                command, *more = read[kind]
                found.append(f"{key.decode()}: {redis.call(command, key, *more)}")
        alive = [
            f"{one.name} {one.dispatcher.context.store.holder} held {one.dispatcher.context.claims.tokens}"
            for one in self.gateways
        ]
        return "\n".join(["", *found, *alive])

    def _check_published(self, one: PushedCommand, record: dict[str, str], published: list[str]) -> None:
        ends = [state for state in published if state in ENDED]
        allowed = len(ends) <= 1 or (len(ends) == 2 and ends[0] in OPEN and ends[1] == "confirmed")
        assert allowed, f"{one.id} was published as {published}"
        if not self.refused:
            assert ends and ends[-1] == record["state"], (
                f"{one.id} is {record}, and was published as {published}"
            )
            for before, after in zip(["", *published[:-1]], published, strict=True):
                assert after in EDGES.get(before, ()), f"{one.id}: {before} -> {after} in {published}"
        if name := record.get("reply_to"):
            key = self.client.key("reply", name)
            texts = self.client.redis.call("LRANGE", key, 0, -1)
            states = [json.loads(text)["state"] for text in texts]
            wanted = ends if not self.refused else states
            assert states == wanted, f"{one.id} was published as {published}, and replied to with {states}"
            good = len(states) == 1 or (len(states) == 2 and states[0] in OPEN and states[1] == "confirmed")
            assert good and states[-1] == record["state"], f"{one.id}: replies {states}, record {record}"

    def _events(self) -> dict[str, list[str]]:
        """Return the states of each command from its events; repetitions count once."""
        published: dict[str, list[str]] = {}
        for event in self.client.events("command"):
            states = published.setdefault(event["data"]["id"], [])
            if not states or states[-1] != event["data"]["state"]:
                states.append(event["data"]["state"])
        return published

    def _check_reports(self) -> None:
        """Check that answered reports are in the stream, and no report twice."""
        found: Counter[tuple[str, int]] = Counter()
        for event in self.client.events("location"):
            if (latitude := event["data"]["latitude"]) is not None:
                found[event["device"], round(latitude * 1000)] += 1
        for unit in self.units:
            for report in unit.reports.values():
                count = found[unit.device, report.place]
                where = f"report {report.place} of {unit.device}"
                assert count <= 1, f"{where} was published {count} times"
                assert count or not report.answered, f"{where} was answered and not published"

    def calm_down(self) -> None:
        """Mend everything, let every lock connect and follow its commands, and advance the time."""
        self.grant()
        self.replace()
        while self.stray:
            self.execute_stray()
        for gateway in list(self.gateways):
            if gateway.frozen:
                gateway.thaw(self.now, data_first=True)
            self.heal(gateway)
        for gateway in list(self.gateways):
            gateway.run()
            if gateway.superseded:
                self.kill(gateway)
        if not self.gateways:
            self.boot(NAMES[0])
        for unit in self.units:
            unit.connect(self.gateways[-1], self.now, keeping=False)
        for _ in self._rounds(PATIENCE):
            if self._is_over():
                break
        for _ in self._rounds(4):
            pass
        self.check_end()

    def _rounds(self, count: int) -> Iterator[None]:
        """Do everything that is due for so many seconds."""
        for _ in range(count):
            for _ in range(2):
                for gateway in self.gateways:
                    gateway.run()
                for unit in self.units:
                    unit.collect()
                for unit in self.units:
                    while unit.unheeded:
                        unit.answer("yes", self.now)
                        unit.open(self.now)
            self.check()
            self.pass_time(1.0)
            for gateway in [one for one in self.gateways if one.superseded]:
                self.kill(gateway)
            if not self.gateways:
                # A later run of its name had been killed in the meantime.
                self.boot(NAMES[0])
            for unit in self.units:
                if not unit.places:
                    unit.connect(self.gateways[-1], self.now, keeping=False)
            yield

    def _is_over(self) -> bool:
        if self.client.under_way() or any(
            gateway.dispatcher.context.claims.tokens for gateway in self.gateways
        ):
            return False
        return all(self.client.state(command) in ENDED for command in self.pushed)
