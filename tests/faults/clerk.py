"""Whoever gives commands, in a thread: each command is pushed again until Redis has said that it has it."""

import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from tests.faults.ledger import Ledger, Manner, Slip
from tests.support import RedisClient, RedisError

_MANNERS: Final = (*[Manner.OPENS] * 6, Manner.REFUSES, Manner.MUTE, Manner.MUTE)
_commands = itertools.count(1)


class Clerk(threading.Thread):
    """Gives a command every `pace` seconds, unlocks and text messages, in a manner that the dice choose.

    The first lock only ever says yes. Did it also open, nobody could tell for which of two commands that it
    has said yes to: the gateway credits the older one.

    A push whose reply is lost may have arrived; it is repeated under the same id, which the gateway knows.
    """

    def __init__(
        self,
        ledger: Ledger,
        connect: Callable[..., RedisClient],
        devices: list[str],
        seed: int,
        pace: float = 0.08,
        timeout: float = 1.0,
        ttl: float = 30.0,
        cancels: float = 0.0,
    ) -> None:
        super().__init__(daemon=True, name="clerk")
        self._ledger = ledger
        self._connect = connect
        self._devices = devices
        self._dice = random.Random(seed)
        self._pace = pace
        #: Of so many commands, as a share of one, somebody tries to take the command back.
        self._cancels = cancels
        self._limits = {"timeout": timeout, "ttl": ttl}
        self._ending = threading.Event()
        self._redis: RedisClient | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Give commands until `stop`."""
        try:
            for number in itertools.count():
                self._command(physical=number % 3 != 2)
                if self._ending.wait(self._pace):
                    return
        except BaseException as error:
            self.error = error
        finally:
            self._hang_up()

    def stop(self) -> None:
        """Give no more; every command that was begun has been given."""
        self._ending.set()
        self.join(30)
        assert not self.is_alive(), "Redis takes no commands"
        if self.error is not None:
            raise AssertionError(f"the clerk failed: {self.error!r}") from self.error

    def _command(self, physical: bool) -> None:
        number = next(_commands)
        device = self._dice.choice(self._devices)
        manner = self._dice.choice(_MANNERS) if physical else Manner.OPENS
        if physical and device == self._devices[0]:
            manner = Manner.YES_ONLY
        # Six digits are a password, and no two commands have the same.
        mark = f"{100000 + number}" if physical else f"text-{number}"
        slip = Slip(f"fault-{number}", device, physical, manner, mark)
        command: dict[str, Any] = {"id": slip.id, "device": device, **self._limits}
        if physical:
            command |= {"command": "unlock", "params": {"password": mark}}
        else:
            command |= {"command": "text", "params": {"text": mark}}
        self._ledger.ordered(slip)
        self._give(command)
        if self._cancels and self._dice.random() < self._cancels:
            slip.recalled = True
            self._ledger.cancels.append(f"cancel-{number}")
            self._give(
                {"id": f"cancel-{number}", "device": device, "command": "cancel", "params": {"id": slip.id}}
            )

    def _give(self, command: dict[str, Any]) -> None:
        entry = json.dumps(command)
        while not self._pushed(entry):
            time.sleep(0.05)

    def _pushed(self, entry: str) -> bool:
        try:
            if self._redis is None:
                self._redis = self._connect(timeout=1.0)
            self._redis.call("RPUSH", "jt709c:commands", entry)
        except (OSError, RedisError, ValueError):
            self._hang_up()
            return False
        return True

    def _hang_up(self) -> None:
        if self._redis is not None:
            self._redis.close()
            self._redis = None
