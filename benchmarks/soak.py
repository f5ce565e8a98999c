"""Does anything creep? A gateway under a mixed load for minutes or hours: memory, descriptors and latency.

Starts the gateway with its embedded server, and `fleet.py` in front of it: virtual locks of every dialect
over TCP and UDP, with sub-locks, that sleep, come back with stored reports and obey commands; and peers that
speak no dialect. One line for each interval, then a verdict, and last a line of JSON. The exit status is 1
when something grows, or when a report or a command is left over at the end.
"""

import argparse
import itertools
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from attrs import define, field
from common import HERE, BenchmarkError, above_zero, positive, report, run
from flatness import creeps, growth, slows
from gateway_process import Daemon
from processes import Child, descriptors, resident_bytes

from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.simulator.options import DIALECTS, FACTORY_PASSWORD, FIRST_IDS, JT701
from jt709c_gateway.simulator.sublocks import identity

_MIB = 1024 * 1024
_PREFIX = "jt709c"
#: Small caps, so that streams are full early: from then on nothing has a reason to grow.
_STREAM = 2000
_OPTIONS = (
    f"--events-max={_STREAM}",
    "--history-max=50",
    # The locks report a hundred times as often as real ones, into a stream of 2,000.
    "--max-share=0",
    "--malformed-max=100",
    "--first-frame-timeout=5",
    "--confirm-timeout=8",
)
#: Behind each master; the fourth would be a sensor.
_SUBLOCKS = 3
#: The stream is cut at whole nodes of up to 100 entries, and a batch may come before the next cut.
_STREAM_SLACK = 500
#: Warming up, as a share of the time and at most in seconds: caches, arenas, and the streams filling. The
#: server was flat after 80 s; until then it grew by 1 MiB in a minute at most.
_WARM_SHARE, _WARM_MOST = 0.4, 180.0
#: What memory may grow by over the looks without meaning anything: some arenas of either process. In the flat
#: part of runs of minutes the gateway moved by 0.1 MiB, the server by 0.2.
_NOISE = {"gateway": 1.0 * _MIB, "server": 2.0 * _MIB}
#: And in an hour. 250 reports/s that leave ten bytes each come to 9 MiB.
_PER_HOUR = 4.0 * _MIB
#: Descriptors beside those of links; strangers come and go between two looks.
_SPARE_DESCRIPTORS = 25
#: A latency is worse when its median over the last third is more than so many times that of the first, + ms.
_SLOWER = {"p50_ms": (2.0, 2.0), "p99_ms": (3.0, 20.0)}
#: Records that may wait for Redis at a look, as a median; a batch holds 200.
_UNACKED = 200
#: Seconds in which a command ends; one for a sub-lock is watched for longer than its master tries.
_PATIENCE, _SUBLOCK_PATIENCE = 45.0, 90.0


@define
class Commands:
    """Gives commands to all kinds of locks, and sees that each comes to an end.

    A record is taken out of Redis once its end has been seen: it would stay for a week, and grow the server's
    memory for as long.
    """

    daemon: Daemon
    locks: int
    given: int = 0
    ends: dict[str, int] = field(factory=dict)
    #: When each has to have ended, and of these the ones for sub-locks.
    _open: dict[str, float] = field(factory=dict)
    _sublocks: set[str] = field(factory=set)
    _dice: random.Random = field(factory=lambda: random.Random(709))

    def give(self) -> None:
        """One more."""
        self.given += 1
        number = self.given
        dialect = DIALECTS[number % len(DIALECTS)]
        device = self._one_of(dialect)
        command: dict[str, Any] = {"id": f"soak-{number}", "device": device, "ttl": 30, "timeout": 4}
        patience = _PATIENCE
        if number % 16 == 0:
            sublock = identity(self._one_of(JT701), self._dice.randint(1, _SUBLOCKS))
            command |= {"device": sublock, "command": "unlock", "params": {"minutes": 1}}
            patience = _SUBLOCK_PATIENCE
            self._sublocks.add(command["id"])
        elif number % 4 == 1:
            command |= {"command": "query", "params": {"what": "firmware"}}
        else:
            command |= {"command": "unlock", "params": {"password": FACTORY_PASSWORD}}
        self._open[command["id"]] = time.monotonic() + patience
        self.daemon.redis.call("RPUSH", f"{_PREFIX}:commands", json.dumps(command))

    def _one_of(self, dialect: str) -> str:
        """A lock of this dialect."""
        return str(int(FIRST_IDS[dialect]) + self._dice.randrange(max(1, self.locks // len(DIALECTS))))

    def look(self) -> None:
        """Count what has ended, and remove it; BenchmarkError for one that has no end after so long."""
        for command_id, until in list(self._open.items()):
            key = f"{_PREFIX}:command:{command_id}"
            state = (self.daemon.redis.call("HGET", key, "state") or b"unknown").decode()
            if state in ENDED:
                self.ends[state] = self.ends.get(state, 0) + 1
                del self._open[command_id]
                self.daemon.redis.call("DEL", key)
            elif time.monotonic() > until:
                raise BenchmarkError(f"command {command_id} is still {state}")

    @property
    def open(self) -> int:
        """How many have not ended."""
        return len(self._open)

    @property
    def unended(self) -> int:
        """The same without those for sub-locks, which may be watched for a minute yet."""
        return len(self._open.keys() - self._sublocks)


def _sample(daemon: Daemon, fleet: Child, commands: Commands, began: float) -> dict[str, Any]:
    commands.look()
    fleet.say("look")
    heard = fleet.hear()
    unacked, links = daemon.metric("jt709c_unacked"), daemon.metric("jt709c_links")
    opened = descriptors(daemon.pid)
    return {
        **heard,
        "at": round(time.monotonic() - began, 1),
        "gateway": resident_bytes(daemon.pid),
        "server": resident_bytes(daemon.valkey_pid),
        "descriptors": opened,
        "beside_links": opened - int(links),
        "unacked": int(unacked),
        "stream": int(daemon.redis.call("XLEN", f"{_PREFIX}:events")),
        "commands": commands.given,
        "commands_open": commands.open,
    }


def _line(now: dict[str, Any], before: dict[str, Any]) -> str:
    passed = max(now["at"] - before["at"], 0.1)
    rate = (now["answered"] - before["answered"]) / passed
    gateway, server = now["gateway"] / _MIB, now["server"] / _MIB
    return (
        f"{now['at']:7.0f} s  gateway {gateway:6.1f} MiB  server {server:6.1f} MiB"
        f"  descriptors {now['descriptors']:4}  answers/s {rate:6.1f}  p50 {_shown(now['p50_ms'])}"
        f"  p99 {_shown(now['p99_ms'])}  unacked {now['unacked']:3}  stream {now['stream']:5}"
        f"  commands {now['commands']} ({now['commands_open']} open)  reconnected {now['connects']}"
    )


def _shown(value: float | None) -> str:
    return "   -   " if value is None else f"{value:5.1f} ms"


def judge(samples: list[dict[str, Any]]) -> tuple[list[str], dict[str, float]]:
    """What is not flat, in words, and how fast memory grows (MiB an hour)."""
    times = [one["at"] for one in samples]
    wrong, rates = [], {}
    for name in ("gateway", "server"):
        values = [one[name] for one in samples]
        rates[f"{name}_mib_per_hour"] = round(growth(times, values).per_hour / _MIB, 2)
        if found := creeps(times, values, _NOISE[name], _PER_HOUR):
            wrong.append(
                f"the {name}'s memory grew by {found.seen / _MIB:.1f} MiB in {times[-1] - times[0]:.0f} s, "
                f"{found.per_hour / _MIB:.0f} MiB an hour"
            )
    beside = [one["beside_links"] for one in samples]
    if max(beside) - min(beside) > _SPARE_DESCRIPTORS:
        wrong.append(f"descriptors that belong to no link went from {min(beside)} to {max(beside)}")
    for name, (factor, allowance) in _SLOWER.items():
        values = [one[name] for one in samples if one[name] is not None]
        if not values:
            wrong.append("nothing was answered")
        elif worse := slows(values, factor, allowance):
            wrong.append(f"{name[:3]} of the answers went from {worse[0]:.1f} to {worse[1]:.1f} ms")
    if (unacked := sorted(one["unacked"] for one in samples)[len(samples) // 2]) > _UNACKED:
        wrong.append(f"{unacked} records were waiting for Redis at a look, as a median")
    if (longest := max(one["stream"] for one in samples)) > _STREAM + _STREAM_SLACK:
        wrong.append(f"the stream had {longest} entries; its cap is {_STREAM}")
    return wrong, rates


def _finish(fleet: Child, commands: Commands) -> list[str]:
    """Let everything come to its end; what doesn't is wrong."""
    fleet.say("drain")
    heard = fleet.hear()
    end = time.monotonic() + _PATIENCE
    while commands.unended and time.monotonic() < end:
        time.sleep(0.2)
        commands.look()
    wrong = []
    for name, text in (
        ("unanswered", "reports were left unanswered"),
        ("lost", "reports had no room in flash"),
    ):
        if heard[name]:
            wrong.append(f"{heard[name]} {text}")
    if heard["unreadable"]:
        wrong.append(f"{heard['unreadable']} bytes from the gateway were no frame")
    if commands.unended:
        wrong.append(f"{commands.unended} commands came to no end")
    if commands.ends.get("invalid"):
        wrong.append(f"{commands.ends['invalid']} commands were invalid")
    return wrong


def soak(
    daemon: Daemon, fleet: Child, commands: Commands, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Sample for as long as was asked, giving commands in between."""
    began = time.monotonic()
    samples = [_sample(daemon, fleet, commands, began)]
    end, look = began + options.minutes * 60, began + options.interval
    for turn in itertools.count(1):
        due = began + turn / options.commands
        if due > end:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        commands.give()
        if time.monotonic() >= look:
            look += options.interval
            samples.append(_sample(daemon, fleet, commands, began))
            print(_line(samples[-1], samples[-2]), flush=True)
    return samples


def main() -> None:
    """Run, judge, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--minutes", type=above_zero, default=2.0, help="how long [%(default)s]")
    parser.add_argument(
        "--interval", type=above_zero, default=4.0, help="seconds between looks [%(default)s]"
    )
    parser.add_argument("--locks", type=positive, default=24, help="virtual locks [%(default)s]")
    parser.add_argument(
        "--every", type=above_zero, default=0.2, help="seconds between two reports of a lock [%(default)s]"
    )
    parser.add_argument("--commands", type=above_zero, default=4.0, help="commands a second [%(default)s]")
    parser.add_argument(
        "--data-dir", type=Path, help="on which disk the gateway's data are [the system's choice]"
    )
    options = parser.parse_args()
    warm = min(_WARM_SHARE * options.minutes * 60, _WARM_MOST)
    if (options.minutes * 60 - warm) / options.interval < 6:
        parser.error("--minutes: too short for six looks after warming up; or make --interval shorter")
    with Daemon(options.data_dir, _OPTIONS, udp=True) as daemon:
        command = [sys.executable, HERE / "fleet.py", "--port", str(daemon.port)]
        command += ["--locks", str(options.locks), "--interval", str(options.every)]
        command += ["--sublocks", str(_SUBLOCKS)]
        with Child(command, pipes=True) as fleet:
            commands = Commands(daemon, options.locks)
            samples = soak(daemon, fleet, commands, options)
            left = _finish(fleet, commands)
        valkey = daemon.valkey
    judged = [one for one in samples if one["at"] >= warm]
    wrong, rates = judge(judged)
    wrong += left
    for line in wrong:
        print(f"NOT FLAT: {line}", flush=True)
    if not wrong:
        first, length = judged[0]["at"], judged[-1]["at"] - judged[0]["at"]
        print(f"flat over {length:.0f} s, after {first:.0f} s of warming up")
    last = judged[-1]
    results = {
        **rates,
        "flat": not wrong,
        "wrong": wrong,
        "samples": len(judged),
        "gateway_mib": round(last["gateway"] / _MIB, 1),
        "server_mib": round(last["server"] / _MIB, 1),
        "descriptors": [min(one["descriptors"] for one in judged), max(one["descriptors"] for one in judged)],
        "p50_ms": last["p50_ms"],
        "p99_ms": last["p99_ms"],
        "answered": last["answered"],
        "reconnections": last["connects"],
        "strangers": last["strangers"],
        "commands": commands.ends,
    }
    report("soak", options, results, valkey=valkey)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run(main)
