"""Every key x right x wrong type: a command that comes meanwhile ends once, and is written once at most.

Two commands come under each hindrance: one for a lock that is there and answers nothing, one for a lock that
is away. It begins before they are taken in, or when the first has been written, and lasts some seconds. A
minute later both have their outcome.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.redis import rights
from tests.support import key_prefix, shared_server
from tests.support.acl import GATEWAY, log_in, password_of, rules_of
from tests.support.command_bench import BenchTestCase
from tests.support.commands import check_edges, new_device, new_id

#: How a key of each type is made.
MAKE = {"string": ("SET", "x"), "list": ("RPUSH", "x")}
#: Keys of the contract that commands have to do with.
NAMES = (
    *("events", "devices", "imei", "device:{device}", "history:{device}", "session:{device}"),
    *("secret:{device}", "recent:{device}", "commands", "commands:intake:gw1", "commands:route:gw1"),
    *("commands:waiting:{device}", "commands:underway:gw1", "commands:unsettled:{device}"),
    *("commands:deadlines", "commands:invalid", "commands:recent", "command:{command}", "reply:me"),
    *("gateway:gw1", "gateways", "histories"),
)
Hindrance = Callable[[dict[str, str]], AbstractContextManager[None]]


class MatrixTests(BenchTestCase):
    def begin(self) -> None:
        """A prefix, a lock and a gateway of its own."""
        self.prefix = self.client.prefix = key_prefix()
        self.user = f"gateway-of-{self.prefix}"
        self.mend()
        self.guarded = log_in(shared_server().client(), self.user, password_of(GATEWAY))
        self.lock.device = self.device = new_device()
        self.node = self.make("gw1").start()

    def mend(self) -> None:
        """The user has its rights (again)."""
        self.client.redis.call("ACL", "SETUSER", self.user, "reset", *rules_of(GATEWAY, self.prefix))

    def play(self, what: str, hindrance: Hindrance) -> list[str]:
        """What is wrong after commands came under a hindrance, at whichever moment it began."""
        return [*self.play_once(what, hindrance, False), *self.play_once(f"{what}, late", hindrance, True)]

    def play_once(self, what: str, hindrance: Hindrance, written: bool) -> list[str]:
        """The same; it begins when a command has been `written`, or before any is taken in."""
        self.begin()
        link = self.come()
        self.node.pass_time(1, tick=0.5)
        names = {"device": self.device, "away": new_device(), "command": new_id()}
        present = self.client.unlock(self.device, id=names["command"], ttl=10, timeout=2, reply_to="me")
        away = self.client.unlock(names["away"], ttl=10, reply_to="me")
        while written and not self.written(link):
            self.node.pass_time(0.1)
        with hindrance(names):
            self.node.pass_time(4, tick=0.5)
        # A user that is made anew has its connections log in anew.
        self.guarded.call("AUTH", self.user, password_of(GATEWAY))
        for _ in range(30):
            self.report(self.node, link)
            self.node.pass_time(4, tick=1)
            if all(self.client.state(one) in ENDED for one in (present, away)):
                break
        wrong = [
            f"{one} command is {self.client.state(command) or 'not known'}"
            for one, command in (("present", present), ("absent", away))
            if self.client.state(command) not in ENDED and not self.is_set_aside(command)
        ]
        if (count := len(self.written(link))) > 1:
            wrong.append(f"written {count} times")
        for command in (present, away):
            states = self.client.states(command)
            if not states and self.is_set_aside(command):
                continue
            if doubled := [state for state, count in Counter(states).items() if count > 1 and state in ENDED]:
                wrong.append(f"told twice: {doubled}")
            try:
                check_edges(states, complete=False)
            except (AssertionError, IndexError) as error:
                wrong.append(f"steps: {error!r}")
        self.guarded.close()
        return [f"{what}: {'; '.join(wrong)}"] if wrong else []

    def is_set_aside(self, command: str) -> bool:
        """Whether its own keys kept a command from being taken in; `commands:invalid` tells that."""
        told = self.client.redis.call("LRANGE", self.client.key("commands", "invalid"), 0, -1)
        return command in [json.loads(one)["id"] for one in told]

    @contextmanager
    def spoiled(self, name: str, kind: str) -> Iterator[None]:
        """Within, a key is of another type."""
        call, key = self.client.redis.call, f"{self.prefix}:{name}"
        kept = call("DUMP", key)
        call("DEL", key)
        command, *rest = MAKE[kind]
        call(command, key, *rest)
        try:
            yield
        finally:
            call("DEL", key)
            if kept is not None:
                call("RESTORE", key, 0, kept)

    @contextmanager
    def without(self, *rules: str) -> Iterator[None]:
        """Within, the user has other rights."""
        self.client.redis.call("ACL", "SETUSER", self.user, *rules)
        try:
            yield
        finally:
            self.mend()

    def test_every_type(self) -> None:
        """With each key of each wrong type."""
        found = [
            self.play(f"{name} a {kind}", lambda names, n=name, k=kind: self.spoiled(n.format(**names), k))
            for name in NAMES
            for kind in MAKE
        ]
        self.assertEqual([one for part in found for one in part], [])

    def test_every_command(self) -> None:
        """Without the right to each command."""
        commands = sorted({command for command, *_ in rights.needed(self.node.keys)})
        found = [
            self.play(f"-{one}", lambda _, c=one: self.without(f"-{c}"))
            for one in commands
            if one not in ("TIME",)
        ]
        self.assertEqual([one for part in found for one in part], [])

    def test_every_key(self) -> None:
        """Without the right to write each key."""
        found = []
        for name in NAMES:

            def hindrance(names: dict[str, str], name: str = name) -> AbstractContextManager[None]:
                every = [f"{self.prefix}:{one.format(**names)}" for one in NAMES]
                lost = f"{self.prefix}:{name.format(**names)}"
                more = [f"~{self.prefix}:{one}" for one in ("commit:*", "track:*", "sessions:*", "let_go")]
                more += [f"~{self.prefix}:*:{names['away']}"]
                rules = [f"~{one}" for one in every if one != lost]
                return self.without("resetkeys", *rules, *more, f"%R~{lost}")

            found.append(self.play(f"{name} read only", hindrance))
        self.assertEqual([one for part in found for one in part], [])
