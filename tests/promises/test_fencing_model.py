"""Paused, disconnected and slow gateways write and publish nothing twice (docs/fencing.rst).

Real gateways, on clocks that stand while they are paused, over a real server. JT709C_MODEL_EXAMPLES sets the
number of random sequences, new ones in each run; without it a few sequences are the same in each run.
"""

import gc
import os
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.logger import globalLogPublisher

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.scripts import COMMIT
from tests.support import key_prefix, shared_server
from tests.support.command_bench import GATEWAY_TTL
from tests.support.fencing_checks import CheckedWorld
from tests.support.fencing_lines import Gateway
from tests.support.fencing_world import MOST_GATEWAYS, NAMES

EXAMPLES: Final = 40
#: Requests before which a gateway may be interrupted.
HELD_AT: Final = {
    "accept": scripts.ACCEPT.hash,
    "adopt": scripts.ADOPT.hash,
    "claim": scripts.CLAIM.hash,
    "commit": COMMIT.hash,
    "expire": scripts.EXPIRE.hash,
    "hands": scripts.HANDS.hash,
    "ownership": "HMGET",
    "remove": scripts.REMOVE.hash,
    "renew": scripts.RENEW.hash,
}
RIGHTS: Final = (
    *(
        "hset",
        "hdel",
        "hget",
        "hmget",
        "hgetall",
        "hincrby",
        "lpush",
        "rpush",
        "lpop",
        "lrem",
        "lrange",
        "ltrim",
    ),
    *(
        "lmove",
        "blmove",
        "xadd",
        "publish",
        "zadd",
        "zrem",
        "zrangebyscore",
        "expire",
        "exists",
        "type",
        "get",
    ),
    *("set", "del", "sadd", "srem", "smembers", "sscan", "evalsha"),
)
#: Keys that may get another type for a while. Those in LISTS may lose their values by that.
KEYS: Final = (
    "command",
    "intake",
    "history",
    "session",
    "device",
    "gateway",
    "events",
    "reply",
    "recent",
    "epoch",
)
LISTS: Final = ("waiting", "unsettled", "underway", "deadlines", "route", "gateways", "sessions")
gateways, units = st.integers(0, MOST_GATEWAYS - 1), st.integers(0, 1)


class Fencing(RuleBasedStateMachine):
    """Random sequences of the rules below."""

    world: CheckedWorld
    trouble = False

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        globalLogPublisher.addObserver(self._log)

    def _log(self, event: dict[str, Any]) -> None:
        if "log_failure" in event:
            self.failures.append(event["log_failure"].getTraceback())

    def pick(self, number: int) -> Gateway | None:
        """Return a gateway by number, if there is one."""
        there = self.world.gateways
        return there[number % len(there)] if there else None

    @initialize(trouble=st.booleans())
    def begin(self, trouble: bool) -> None:
        """Start the gateways; `trouble` allows faults of Redis."""
        self.trouble = trouble
        self.world = CheckedWorld(shared_server(), key_prefix())
        for name in NAMES:
            self.world.boot(name)
        self.everybody(1)
        for unit, gateway in zip(self.world.units, self.world.gateways, strict=True):
            unit.connect(gateway, self.world.now, keeping=False)
        self.everybody(1)

    # Time goes on

    @rule(seconds=st.sampled_from((0, 0, 1, 3)))
    def everybody(self, seconds: int) -> None:
        for _ in range(2 * seconds + 1):
            for gateway in list(self.world.gateways):
                gateway.run()
            if seconds:
                self.world.pass_time(0.5)

    @rule(number=gateways, count=st.integers(1, 6))
    def do_some(self, number: int, count: int) -> None:
        if gateway := self.pick(number):
            for _ in range(count):
                gateway.step()

    @rule(number=gateways, what=st.sampled_from(sorted(HELD_AT)))
    def go_on_until(self, number: int, what: str) -> None:
        if gateway := self.pick(number):
            self.world.steps_to(gateway, HELD_AT[what])

    @rule(seconds=st.sampled_from((0.3, 1.0, 3.0, 6.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def leases_lapse(self) -> None:
        self.world.pass_time(GATEWAY_TTL + 1)

    # Commands

    @rule(unit=units, command=st.sampled_from(("unlock", "unlock", "locate")), ttl=st.sampled_from((4, 40)))
    def give(self, unit: int, command: str, ttl: int) -> None:
        self.world.push_command(self.world.units[unit], command, ttl)

    @rule(
        unit=units,
        stage=st.sampled_from(("queued", "claimed", "recorded", "written", "sent")),
        before_reply=st.booleans(),
    )
    def carry_out(self, unit: int, stage: str, before_reply: bool) -> None:
        self.world.advance_unlock(self.world.units[unit], stage, before_reply)

    @precondition(lambda self: self.world.pushed)
    @rule(unit=units, which=st.integers(0, 20), what=st.sampled_from(("again", "cancel")))
    def give_of_another(self, unit: int, which: int, what: str) -> None:
        commands = [one for one in self.world.pushed.values() if one.target is None]
        one = commands[which % len(commands)]
        if what == "cancel":
            self.world.push_cancel(self.world.units[unit], one.id)
        elif one.physical:
            self.world.push_command(self.world.units[unit], "unlock", 40, again=one.id)

    # Locks

    @rule(unit=units, number=gateways, keeping=st.booleans())
    def connect(self, unit: int, number: int, keeping: bool) -> None:
        if gateway := self.pick(number):
            self.world.units[unit].connect(gateway, self.world.now, keeping)

    @rule(unit=units, index=st.integers(-2, -1))
    def speak(self, unit: int, index: int) -> None:
        self.world.units[unit].report(self.world.now, index=index)

    @rule(unit=units)
    def speak_again(self, unit: int) -> None:
        self.world.units[unit].report_again()

    @rule(unit=units, index=st.integers(-2, -1))
    def open(self, unit: int, index: int) -> None:
        self.world.units[unit].open(self.world.now, index)

    @rule(
        unit=units,
        how=st.sampled_from(("yes", "yes", "no", "strange", "nothing")),
        opens=st.booleans(),
        index=st.integers(-2, -1),
    )
    def answer(self, unit: int, how: str, opens: bool, index: int) -> None:
        lock = self.world.units[unit]
        lock.collect()
        lock.answer(how, self.world.now, index)
        if opens:
            lock.open(self.world.now, index)

    @rule(unit=units)
    def hang_up(self, unit: int) -> None:
        self.world.units[unit].hang_up()

    # Gateways

    @rule(number=gateways)
    def pause(self, number: int) -> None:
        if gateway := self.pick(number):
            gateway.frozen = True

    @rule(number=gateways, data_first=st.booleans())
    def resume(self, number: int, data_first: bool) -> None:
        gateway = self.pick(number)
        if gateway and gateway.frozen:
            gateway.thaw(self.world.now, data_first)

    @rule(number=gateways, at_once=st.booleans())
    def cut(self, number: int, at_once: bool) -> None:
        if gateway := self.pick(number):
            gateway.cut = True
            if at_once and not gateway.frozen:
                self.world.lose_connection(gateway)

    @rule(number=gateways)
    def heal(self, number: int) -> None:
        if gateway := self.pick(number):
            self.world.heal(gateway)

    @rule(number=gateways, count=st.integers(1, 4))
    def reply_late(self, number: int, count: int) -> None:
        """Redis executes requests whose replies have not arrived."""
        if gateway := self.pick(number):
            for _ in range(count):
                gateway.wire.work() or gateway.blocking.work()

    @rule()
    def come_late(self) -> None:
        """A request over a lost connection reaches Redis."""
        self.world.execute_stray()

    @precondition(lambda self: len(self.world.gateways) > 1)
    @rule(number=gateways)
    def kill(self, number: int) -> None:
        if gateway := self.pick(number):
            self.world.kill(gateway)

    @precondition(lambda self: len(self.world.gateways) > 1)
    @rule(number=gateways)
    def stop(self, number: int) -> None:
        if (gateway := self.pick(number)) and gateway.runs:
            self.world.stop(gateway)

    @rule(name=st.sampled_from(NAMES))
    def start(self, name: str) -> None:
        world = self.world
        same = [one for one in world.gateways if one.name == name]
        if len(world.gateways) < MOST_GATEWAYS and len(same) < 2:
            world.boot(name)

    # Redis

    @precondition(lambda self: self.trouble and not self.world.denied)
    @rule(command=st.sampled_from(RIGHTS))
    def take_a_right(self, command: str) -> None:
        self.world.deny(command)

    @precondition(lambda self: self.trouble)
    @rule()
    def give_rights(self) -> None:
        self.world.grant()

    @precondition(lambda self: self.trouble and len(self.world.displaced) < 2)
    @rule(what=st.sampled_from((*KEYS, *LISTS)), name=st.sampled_from(NAMES), unit=units, lost=st.booleans())
    def displace(self, what: str, name: str, unit: int, lost: bool) -> None:
        key, device = self.world.key, self.world.units[unit].device
        command = next(reversed(self.world.pushed), "o1")
        name_of = {
            "command": key("command", command),
            "intake": key("commands", "intake", name),
            "history": key("history", device),
            "session": key("session", device),
            "device": key("device", device),
            "gateway": key("gateway", name),
            "reply": key("reply", f"r{command[1:]}"),
            "recent": key("commands", "recent"),
            "waiting": key("commands", "waiting", device),
            "unsettled": key("commands", "unsettled", device),
            "underway": key("commands", "underway", name),
            "deadlines": key("commands", "deadlines"),
            "route": key("commands", "route", name),
            "sessions": key("sessions", name),
        }
        self.world.displace(name_of.get(what, key(what)), comes_back=what in KEYS or not lost)

    @precondition(lambda self: self.trouble)
    @rule()
    def replace(self) -> None:
        self.world.replace()

    @rule()
    def flush_scripts(self) -> None:
        self.world.client.redis.call("SCRIPT", "FLUSH")

    # Invariants

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()
        assert not self.failures, self.failures[0]

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.world.calm_down()
                self.world.close()
                del self.world
                gc.collect(1)
            assert not self.failures, self.failures[0]
        finally:
            globalLogPublisher.removeObserver(self._log)


_asked = int(os.environ.get("JT709C_MODEL_EXAMPLES") or 0)
Fencing.TestCase.settings = settings(
    max_examples=_asked or EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    derandomize=not _asked,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
FencingTests = Fencing.TestCase
