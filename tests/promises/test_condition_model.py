"""Commands with conditions among moving locks, changing areas and dying gateways: never bytes against them.

The world of `test_command_model`, with positions and named areas. Whatever is written is judged at once: by
what the gateway has heard over that very connection, by the area that Redis has then, and by the clock.
"""

import json
from typing import Any, Final

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.protocol import jt709
from tests.promises.test_command_model import Unit, World
from tests.support import key_prefix, shared_server
from tests.support.command_bench import START
from tests.support.commands import CommandClient, new_id

#: Two places 111 km apart, and areas round them.
PLACES: Final = {"here": (51.0, 1.0), "there": (52.0, 1.0)}
AREAS: Final = {
    "here": {"circle": {"center": [51.0, 1.0], "radius_m": 500}},
    "there": {"polygon": [[51.9, 0.9], [51.9, 1.1], [52.1, 1.1], [52.1, 0.9]]},
}


@frozen
class Heard:
    """A live report that a gateway has got over a connection, and when it was made."""

    place: str
    speed: float
    at: float


class MovingUnit(Unit):
    """A lock that moves between two places, and says where it is with each report."""

    def __init__(self, world: "ConditionWorld") -> None:
        super().__init__(world)
        self.place, self.speed, self.has_fix = "here", 0.0, True
        #: By connection: the last position that its gateway has, and how many bytes were judged.
        self.heard: dict[int, Heard] = {}
        self.judged: list[int] = []
        self._made: Heard | None = None

    def report(self, items: bytes = b"", status: int = 2) -> bytes:
        latitude, longitude = PLACES[self.place]
        status = status | jt709.STATUS_FIX if self.has_fix else status & ~jt709.STATUS_FIX
        self._made = Heard(self.place, self.speed, self.world.now) if self.has_fix else None
        where = {"latitude": latitude, "longitude": longitude, "speed_kmh": self.speed}
        return self.body.location(items, status, START + self.world.now, **where)

    def say(self, *frames: bytes) -> None:
        super().say(*frames)
        node, link = self.links[-1]
        is_there = node in self.world.alive and node not in self.world.frozen and not link.closed
        if self._made is not None and is_there and frames[0][:1] == b"\x7e":
            self.heard[len(self.links) - 1] = self._made
        self._made = None

    def new_bytes(self) -> list[tuple[int, bytes]]:
        """Return the commands that were written since the last call, with their connections."""
        found: list[tuple[int, bytes]] = []
        self.judged += [0] * (len(self.links) - len(self.judged))
        for index, (_, link) in enumerate(self.links):
            found += [(index, data) for data in link.sent[self.judged[index] :] if data[:1] == b"("]
            self.judged[index] = len(link.sent)
        return found


class ConditionWorld(World):
    """Commands get random conditions; `area` is what Redis has under the only area's name."""

    def __init__(self, client: CommandClient, seed: int, trouble: bool) -> None:
        super().__init__(client, seed, trouble)
        self.units: list[MovingUnit] = [MovingUnit(self) for _ in range(2)]
        self.area: str | None = None
        self.conditions: dict[bytes, dict[str, Any]] = {}
        self.allowed = 0
        self.set_area("here")

    def set_area(self, area: str | None) -> None:
        """Define, remove (None) or break the area."""
        self.area, key, redis = area, self.client.key("area", "depot"), self.client.redis
        redis.call("DEL", key)
        if area in AREAS:
            redis.call("SET", key, json.dumps(AREAS[area]))
        elif area == "broken":
            redis.call("SET", key, '{"circle":{}}')
        elif area == "another type":
            redis.call("RPUSH", key, "x")

    def command(self) -> None:
        dice, unit, command = self.dice, self.dice.choice(self.units), new_id()
        found: dict[str, Any] = {"when_not_allowed": dice.choice(("reject", "wait")), "position_max_age": 5}
        if dice.random() < 0.8:
            found["only_within"] = dice.choice(
                (AREAS["here"], AREAS["there"], {"area": "depot"}, {"area": "depot"})
            )
        if dice.random() < 0.3 or "only_within" not in found:
            found["max_speed_kmh"] = 5
        if dice.random() < 0.2:
            found["not_before"] = START + self.now + dice.choice((0.5, 3.0))
        if dice.random() < 0.3:
            found["not_after"] = START + self.now + dice.choice((4.0, 8.0))
        if dice.random() < 0.1:
            # Others that must not be held up by it.
            found = {}
        password = self.password(command)
        self.conditions[self.commands[command][0]] = found
        self.client.unlock(
            unit.body.device, password, id=command, timeout=3, ttl=dice.choice((3, 20)), **found
        )

    def act(self) -> None:
        dice, what = self.dice, self.dice.random()
        unit = dice.choice(self.units)
        if what < 0.06:
            unit.place, unit.speed = dice.choice(("here", "there")), dice.choice((0.0, 0.0, 30.0))
            unit.has_fix = dice.random() < 0.9
        elif what < 0.14 and unit.links:
            unit.say(unit.report())
        elif what < 0.17:
            self.set_area(dice.choice(("here", "here", "there", None, "broken", "another type")))
        else:
            super().act()
        self.judge()

    def round(self) -> None:
        self.pass_time(0.25)
        for node in self.alive:
            node.run()
            self.judge()
        for unit in self.units:
            if unit.links:
                unit.live(self.dice, reliable=True)

    def judge(self) -> None:
        """Check that everything that was written just now was allowed."""
        for unit in self.units:
            for index, data in unit.new_bytes():
                found = next(one for mark, one in self.conditions.items() if mark in data)
                why = self.forbidden(found, unit.heard.get(index))
                assert why is None, (
                    f"written at {self.now}, {why}: {found}, {unit.heard.get(index)}, {self.area}"
                )
                self.allowed += bool(found)

    def forbidden(self, found: dict[str, Any], heard: Heard | None) -> str | None:
        """Return why a command may not be written now, by means of this test alone."""
        now = START + self.now
        if not found.get("not_before", now) <= now < found.get("not_after", now + 1):
            return "at the wrong time"
        if not found:
            return None
        # Reports have whole seconds.
        if heard is None or self.now - heard.at > 5 + 1:
            return "without a live position"
        within = found.get("only_within")
        place = self.area if within == {"area": "depot"} else heard.place if within is None else None
        place = place or next((name for name, area in AREAS.items() if area == within), None)
        if place != heard.place:
            return "in the wrong place"
        return "too fast" if heard.speed > found.get("max_speed_kmh", 300) else None


class ConditionModelTests(SynchronousTestCase):
    """Many short runs, each from its seed."""

    def live(self, seeds: range, trouble: bool, steps: int) -> None:
        written = 0
        for seed in seeds:
            client = CommandClient(shared_server(), key_prefix())
            self.addCleanup(client.close)
            world = ConditionWorld(client, seed, trouble)
            for _ in range(steps):
                world.act()
            world.set_area(world.dice.choice(("here", "there", "another type")))
            world.calm_down()
            for command, marks in world.commands.items():
                record, where = client.record(command), f"seed {seed}: {command} {client.record(command)}"
                self.assertIn(record.get("state"), ENDED, where)
                data = [one for unit in world.units for _, link in unit.links for one in link.sent]
                self.assertLessEqual(sum(mark in one for mark in marks for one in data), 1, where)
            self.assertEqual(client.under_way(), [], f"seed {seed}")
            self.assertEqual(self.flushLoggedErrors(), [], f"seed {seed}")
            written += world.allowed
        self.assertGreater(written, len(seeds))

    def test_without_trouble(self) -> None:
        """Locks move and areas change: commands are written where they may be, and nowhere else."""
        self.live(range(5), trouble=False, steps=600)

    def test_with_trouble(self) -> None:
        """Gateways die, freeze and adopt, and Redis is lost at any request: the same."""
        self.live(range(2000, 2006), trouble=True, steps=800)
