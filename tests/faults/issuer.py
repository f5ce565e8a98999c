"""Pushes commands from a thread, each until Redis has confirmed the push."""

import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from tests.faults.observations import IssuedCommand, Observations, Reaction
from tests.support import RedisClient, RedisError

_REACTIONS: Final = (*[Reaction.OPENS] * 6, Reaction.REFUSES, Reaction.MUTE, Reaction.MUTE)
_commands = itertools.count(1)


class CommandIssuer(threading.Thread):
    """Pushes an unlock or text command every `pace` seconds; the lock's reaction is random.

    The first lock accepts commands and never opens. If it opened, the test could not tell for which of two
    accepted commands: the gateway credits the older one.

    A push whose reply is lost may have arrived. It is repeated under the same id, which the gateway knows.
    """

    def __init__(
        self,
        observations: Observations,
        connect: Callable[..., RedisClient],
        devices: list[str],
        seed: int,
        pace: float = 0.08,
        timeout: float = 1.0,
        ttl: float = 30.0,
        cancels: float = 0.0,
    ) -> None:
        super().__init__(daemon=True, name="issuer")
        self._observations = observations
        self._connect = connect
        self._devices = devices
        self._dice = random.Random(seed)
        self._pace = pace
        #: The share of commands, from 0 to 1, that a cancel command follows.
        self._cancel_share = cancels
        self._limits = {"timeout": timeout, "ttl": ttl}
        self._ending = threading.Event()
        self._redis: RedisClient | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Push commands until `stop`."""
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
        """Push no more commands. Those already started have been pushed."""
        self._ending.set()
        self.join(30)
        assert not self.is_alive(), "Redis accepts no commands"
        if self.error is not None:
            raise AssertionError(f"the command issuer failed: {self.error!r}") from self.error

    def _command(self, physical: bool) -> None:
        number = next(_commands)
        device = self._dice.choice(self._devices)
        reaction = self._dice.choice(_REACTIONS) if physical else Reaction.OPENS
        if physical and device == self._devices[0]:
            reaction = Reaction.YES_ONLY
        # Six digits are a password, and no two commands have the same.
        mark = f"{100000 + number}" if physical else f"text-{number}"
        command = IssuedCommand(f"fault-{number}", device, physical, reaction, mark)
        fields: dict[str, Any] = {"id": command.id, "device": device, **self._limits}
        if physical:
            fields |= {"command": "unlock", "params": {"password": mark}}
        else:
            fields |= {"command": "text", "params": {"text": mark}}
        self._observations.issued(command)
        self._push_until_accepted(fields)
        if self._cancel_share and self._dice.random() < self._cancel_share:
            command.cancel_requested = True
            self._observations.cancels.append(f"cancel-{number}")
            self._push_until_accepted(
                {
                    "id": f"cancel-{number}",
                    "device": device,
                    "command": "cancel",
                    "params": {"id": command.id},
                }
            )

    def _push_until_accepted(self, fields: dict[str, Any]) -> None:
        entry = json.dumps(fields)
        while not self._try_to_push(entry):
            time.sleep(0.05)

    def _try_to_push(self, entry: str) -> bool:
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
