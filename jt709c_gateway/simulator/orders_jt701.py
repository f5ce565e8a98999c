"""What a virtual master of the dialect `jt701` does when the gateway tells it something (PROTOCOL.md §3, §4).

`Pnn` orders are answered as §4 says. Where it gives only the word of an answer, the order's own arguments
come behind it, with the operation (1 set, 0 query) first. Settings are remembered and change nothing else,
but for P59: without `gprs` no order opens the lock. Orders about sub-locks get their head back::

    WLNET,1,0              -> WLNET,1,0,n,id…                        list
    WLNET,1,1,n,id…        -> WLNET,1,1,n                            bind
    WLNET,4                -> WLNET,4,firmware
    WLNET,8,1,1,minutes,id -> WLNET,8,1,1,minutes,id  or WLNET,8,1,0,minutes,id  when no such lock is bound
    WLNET,18,1,beat,alarm  -> WLNET,18,1,beat,alarm                  beat: seconds between reports
"""

import re
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field

from jt709c_gateway.protocol import pnn, sentences
from jt709c_gateway.protocol.sentences import Sentence
from jt709c_gateway.simulator.orders import RESTART_SECONDS
from jt709c_gateway.simulator.speech import Host
from jt709c_gateway.simulator.sublocks import SubLocks

FIRMWARE: Final = "JT701D_SIM_1.0"
#: Seconds of sleep that P32 brings; a vibration wakes it.
_SLEEP_SECONDS: Final = 60.0
_CARDS_AT_ONCE: Final = 20
_MOST_CARDS: Final = 500
_CARD = re.compile(r"[0-9]{10}")
_NUMBER = re.compile(r"[0-9]{1,5}")
_IDENTITY = re.compile(r"[0-9A-F]{10}")
#: Index of `gprs` among the channels of P59.
_GPRS: Final = 1

#: Settings by their word: what each is at first, and the range of each value; None is any text.
_Ranges = tuple[tuple[int, int] | None, ...]
_SETTINGS: Final[dict[str, tuple[tuple[str, ...], _Ranges]]] = {
    "P04": (("30", "60"), ((5, 600), (5, 1440))),
    "P06": (("gateway.example.com", "8888", "internet", "", ""), (None, (1, 65535), None, None, None)),
    "P38": (("30",), ((3, 180),)),
    "P54": (("0",), ((0, 1),)),
    "P59": (("1", "1", "1", "1", "1"), ((0, 1),) * 5),
    "P61": (("20",), ((0, 90),)),
}
#: Set or asked for in forms that PROTOCOL.md doesn't write out: said back.
_ECHOED: Final = frozenset(["P24", "P29", "P30", "P31", "P40"])

_Arguments = tuple[str, ...]


class Voice(Protocol):
    """What carrying out orders needs of the dialect around it."""

    def tell_dynamic_password(self, now: float) -> bytes:
        """Make a new dynamic password and report it."""


@define(eq=False)
class MasterOrders:
    """Carries out orders for one master; what it gives back are frames to be sent at once."""

    lock: Host = field(repr=False)
    voice: Voice = field(repr=False)
    sublocks: SubLocks = field(repr=False)
    cards: list[str] = field(factory=list)
    _settings: dict[str, _Arguments] = field(factory=dict, repr=False)
    _dynamic: _Arguments = ("1", "0")
    _last_serial: int | None = None

    def __attrs_post_init__(self) -> None:
        self._dynamic = (str(int(self.lock.options.dynamic_password)), "0")
        self._restore()

    def on_pnn(self, word: str, arguments: _Arguments, now: float) -> list[bytes]:
        """A `Pnn` sentence."""
        counters = self.lock.counters
        counters.orders += 1
        if self.lock.options.mute:
            return []
        if word in _SETTINGS:
            answer = self._setting(word, arguments)
        elif word in _ECHOED:
            answer = arguments
        elif handler := _HANDLERS.get(word):
            answer = handler(self, arguments, now)
        else:
            answer = None
        if answer is None:
            return []
        counters.orders_answered += 1
        frames = [pnn.sentence(self.lock.device, word, *answer)]
        if word == "P52" and answer[:2] == ("3", "1"):
            frames.append(self.voice.tell_dynamic_password(now))
        return frames

    def on_sentence(self, sentence: Sentence, now: float) -> list[bytes]:
        """A grouped sentence. One that repeats the last one's serial is dropped (PROTOCOL.md §2.1)."""
        counters = self.lock.counters
        counters.orders += 1
        if sentence.serial == self._last_serial:
            counters.orders_dropped += 1
            return []
        self._last_serial = sentence.serial
        handler = _WLNET.get(sentence.arguments[:1]) if sentence.word == "WLNET" else None
        if self.lock.options.mute or handler is None:
            return []
        answer = handler(self, sentence.arguments[1:], now)
        if answer is None:
            return []
        counters.orders_answered += 1
        number = sentence.arguments[0]
        master = self.lock.device.zfill(10)
        return [sentences.grouped(master, sentence.serial or 0, "WLNET", number, *answer)]

    # Each of these gets what follows the word, or WLNET and its number, and gives what the answer has there;
    # None is silence.

    def _unlock(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if len(arguments) != 1:
            return None
        done = self._remote_allowed and self.lock.guard.unlock(arguments[0], "password", now)
        return _said(done), str(self.lock.guard.tries)

    def _password(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if arguments == ("1",):
            return (self.lock.guard.password,)
        return (_said(self.lock.guard.set_password(*arguments)),) if len(arguments) == 2 else None

    def _dynamic_password(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("3", given):
                done = self._remote_allowed and self.lock.guard.unlock(given, "dynamic_password", now)
                return "3", _said(done), str(self.lock.guard.tries)
            case ("1", "0"):
                return "1", *self._dynamic
            case ("1", "1", ("0" | "1") as on, fence) if _within(fence, (0, 10)):
                if not self.lock.options.refuse:
                    self._dynamic = (on, fence)
                return "1", *self._dynamic
        return None

    def _cards(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", "3"):
                self.cards = [] if not self.lock.options.refuse else self.cards
                return arguments
            case ("1", ("1" | "2") as step, count, *cards):
                if count != str(len(cards)) or not 0 < len(cards) <= _CARDS_AT_ONCE:
                    return None
                if not all(map(_CARD.fullmatch, cards)):
                    return None
                self._change_cards(step == "1", cards)
                return "1", step, count
            case ("0", group) if _within(group, (1, _MOST_CARDS // _CARDS_AT_ONCE)):
                end = int(group) * _CARDS_AT_ONCE
                cards = self.cards[end - _CARDS_AT_ONCE : end]
                return "0", group, str(len(cards)), *cards
        return None

    def _change_cards(self, add: bool, cards: list[str]) -> None:
        if not self.lock.options.refuse:
            rest = [card for card in self.cards if card not in cards]
            self.cards = (rest + cards if add else rest)[:_MOST_CARDS]

    def _setting(self, word: str, arguments: _Arguments) -> _Arguments | None:
        _, ranges = _SETTINGS[word]
        operation, values = arguments[:1], arguments[1:]
        if operation == ("1",) and len(values) == len(ranges):
            pairs = zip(values, ranges, strict=True)
            if not all(allowed is None or _within(value, allowed) for value, allowed in pairs):
                return None
            if not self.lock.options.refuse:
                self._settings[word] = values
        elif arguments != ("0",):
            return None
        behind = ("0",) if word == "P06" else ()
        return *operation, *self._settings[word], *behind

    def _firmware(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return FIRMWARE, f"{round(self.lock.unit.battery)}%"

    def _imei(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return ("86" + self.lock.device.zfill(13),)

    def _sim(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if arguments not in (("1", "0"), ("2", "0")):
            return None
        return arguments[0], "8931" + arguments[0] + self.lock.device.zfill(15)

    def _restart(self, arguments: _Arguments, now: float) -> _Arguments | None:
        self.lock.nap(now, RESTART_SECONDS)
        return ()

    def _sleep(self, arguments: _Arguments, now: float) -> _Arguments | None:
        self.lock.nap(now, _SLEEP_SECONDS)
        return ()

    def _factory_reset(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if not self.lock.options.refuse:
            self.lock.guard.reset()
            self._restore()
            self.cards = []
            self.lock.nap(now, RESTART_SECONDS)
        return ()

    def _restore(self) -> None:
        self._settings = {word: values for word, (values, _) in _SETTINGS.items()}

    @property
    def _remote_allowed(self) -> bool:
        return self._settings["P59"][_GPRS] == "1"

    # WLNET

    def _bindings(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("0",):
                return "0", str(len(self.sublocks.bound)), *self.sublocks.bound
            case ("1", count, *identities) if count == str(len(identities)):
                if not all(map(_IDENTITY.fullmatch, identities)):
                    return None
                if not self.lock.options.refuse:
                    self.sublocks.bind(identities, now)
                return "1", str(len(self.sublocks.bound))
        return None

    def _sublock_firmware(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return (FIRMWARE,)

    def _unlock_sublock(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", "1", minutes, identity) if _within(minutes, (1, 5)):
                if not self.lock.options.refuse and self.sublocks.unlock(identity, now):
                    return arguments
                self.lock.counters.refused += 1
                return "1", "0", minutes, identity
        return None

    def _beat(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", beat, alarm) if _within(beat, (1, 65535)) and _within(alarm, (1, 65535)):
                if not self.lock.options.refuse:
                    self.sublocks.set_interval(float(beat), now)
                return arguments
        return None


def _said(yes: bool) -> str:
    return "1" if yes else "0"


def _within(text: str, allowed: tuple[int, int]) -> bool:
    return bool(_NUMBER.fullmatch(text)) and allowed[0] <= int(text) <= allowed[1]


_Handler = Callable[[MasterOrders, _Arguments, float], _Arguments | None]
_HANDLERS: Final[dict[str, _Handler]] = {
    "P01": MasterOrders._firmware,
    "P13": MasterOrders._factory_reset,
    "P14": MasterOrders._imei,
    "P15": MasterOrders._restart,
    "P32": MasterOrders._sleep,
    "P41": MasterOrders._cards,
    "P43": MasterOrders._unlock,
    "P44": MasterOrders._password,
    "P52": MasterOrders._dynamic_password,
    "P68": MasterOrders._sim,
}
_WLNET: Final[dict[_Arguments, _Handler]] = {
    ("1",): MasterOrders._bindings,
    ("4",): MasterOrders._sublock_firmware,
    ("8",): MasterOrders._unlock_sublock,
    ("18",): MasterOrders._beat,
}
