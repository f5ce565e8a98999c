"""The passwords and the bolt of a lock, independent of its dialect."""

from collections.abc import Callable
from random import Random
from typing import Final, Literal

from attrs import define, field, frozen

from jt709c_gateway.protocol.events import Action, Method
from jt709c_gateway.protocol.lock_event_item import PASSWORD_LENGTH
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.options import FACTORY_PASSWORD, LockOptions
from jt709c_gateway.simulator.vehicle import WRONG_PASSWORD, Vehicle

#: Wrong passwords in a row that raise the alarm (docs/protocol.rst §4).
_TRIES: Final = 5


@frozen
class LockMovement:
    """A movement or a failed attempt; `shown` is the password or card number, if any."""

    method: Method
    action: Action
    shown: str | None = field(default=None, repr=False)


@define(eq=False)
class LockMechanism:
    """Passwords, tries and the bolt of one lock. `moved` is called with `now` and each movement."""

    device: str
    options: LockOptions = field(repr=False)
    vehicle: Vehicle = field(repr=False)
    counters: Counters = field(repr=False)
    moved: Callable[[float, LockMovement], None] = field(repr=False)
    password: str = field(repr=False)
    dynamic_password: str | None = field(default=None, repr=False)
    #: Wrong passwords in a row.
    tries: int = 0
    _dynamic_made: int = 0

    def new_dynamic_password(self) -> str:
        """Generate a random dynamic password."""
        self._dynamic_made += 1
        dice = Random(f"{self.options.seed}:{self.device}:{self._dynamic_made}")
        self.dynamic_password = f"{dice.randrange(10**PASSWORD_LENGTH):0{PASSWORD_LENGTH}d}"
        return self.dynamic_password

    def unlock(self, given: str, method: Literal["password", "dynamic_password"], now: float) -> bool:
        """Try a password; return whether it was accepted. The fifth wrong one raises an alarm."""
        right = self.password if method == "password" else self.dynamic_password
        if self.options.refuse or right is None or given != right:
            self.tries += 1
            self.counters.refused += 1
            if self.tries >= _TRIES:
                self.vehicle.alarm(WRONG_PASSWORD, True)
            self.moved(now, LockMovement(method, "refused", given))
            return False
        self.tries = 0
        self.vehicle.alarm(WRONG_PASSWORD, False)
        if not self.options.no_evidence:
            self._open(now, LockMovement(method, "unlocked", given))
        return True

    def show_card(self, card: str, now: float) -> None:
        """Unlock with a permitted card."""
        self._open(now, LockMovement("card", "unlocked", card))

    def seal(self, now: float) -> bool:
        """Close on command; return whether it was accepted."""
        if self.options.refuse:
            self.counters.refused += 1
            return False
        if not self.options.no_evidence:
            self.close(now)
        return True

    def close(self, now: float) -> None:
        """Insert the rope and lock the motor."""
        self.vehicle.motor_open = self.vehicle.rope_open = False
        self.counters.sealed += 1
        self.moved(now, LockMovement("automatic", "locked"))

    def set_password(self, new: str, old: str) -> bool:
        """Change the static password; return whether it was accepted."""
        if self.options.refuse or old != self.password or len(new) != PASSWORD_LENGTH:
            self.counters.refused += 1
            return False
        self.password = new
        return True

    def reset(self) -> None:
        """Restore the factory password."""
        self.password, self.tries = FACTORY_PASSWORD, 0

    def _open(self, now: float, movement: LockMovement) -> None:
        self.vehicle.motor_open = True
        self.counters.unlocked += 1
        self.moved(now, movement)
