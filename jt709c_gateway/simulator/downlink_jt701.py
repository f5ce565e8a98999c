"""Handles what the gateway sends to a virtual master of the dialect `jt701` (docs/protocol.rst §3, §4).

`Pnn` commands are answered as §4 says. Settings are remembered and change nothing else, but for P59: without
`gprs` no command opens the lock. Words whose arguments §4 doesn't give are echoed. Commands about
sub-locks and firmware get their head back::

    WLNET,1,0              -> WLNET,1,0,n,id…        list
    WLNET,1,1,n,id…        -> WLNET,1,1,n            bind; n = 0 unbinds all
    WLNET,2,1,minutes      -> WLNET,2,1,minutes      interval of sensors; WLNET,2,0 asks
    WLNET,4                -> WLNET,4,firmware
    WLNET,8,1,1,minutes,id -> WLNET,8,0,id           whether or not such a lock is bound
    WLNET,18,1,beat,alarm  -> WLNET,18,1,beat,alarm  beat: seconds between reports; WLNET,18,0 asks
    OTA,9,1,…              -> OTA,9,1,n              0 begun, 3 FTP failed; OTA,9,0 asks, OTA,9,2 stops
"""

import re
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field

from jt709c_gateway.protocol import pnn, sentences
from jt709c_gateway.protocol.device_id import master_digits
from jt709c_gateway.protocol.sentences import Sentence
from jt709c_gateway.simulator.dialect import Host
from jt709c_gateway.simulator.downlink_jt709 import RESTART_SECONDS
from jt709c_gateway.simulator.settings_jt701 import CHANNELS, Fences, Settings, within
from jt709c_gateway.simulator.settings_jt701 import WORDS as SETTINGS
from jt709c_gateway.simulator.sublocks import SubLocks

FIRMWARE: Final = "JT701D_SIM_1.0"
#: Seconds of sleep after P32; a vibration wakes the lock.
_SLEEP_SECONDS: Final = 60.0
_CARDS_AT_ONCE: Final = 20
_MOST_CARDS: Final = 500
_CARD = re.compile(r"[0-9]{10}")
_IDENTITY = re.compile(r"[0-9A-F]{10}")
#: Index of `gprs` among the channels of P59.
_GPRS: Final = 1
#: Commands whose answer echoes the arguments, or whose form docs/protocol.rst doesn't give.
_ECHOED: Final = frozenset(["P11", "P50", "P62", "P63", "P65", "P70", "P97", "P99"])
_OFF: Final = "0"
_SECONDS: Final = (5, 86_400)
_MINUTES: Final = (1, 1440)
#: An interval that means never.
_HARDLY_EVER: Final = 1e9
_OTA_PARTS: Final = 7
_OTA_BEGUN: Final = "0"
_OTA_FAILED: Final = "3"

_Arguments = tuple[str, ...]


class CommandDialect(Protocol):
    """The interface of the dialect for commands."""

    def report_dynamic_password(self, now: float) -> bytes:
        """Make a new dynamic password and report it."""


@define(eq=False)
class Jt701Downlink:
    """Executes the commands of one master; methods return the frames to send."""

    lock: Host = field(repr=False)
    dialect: CommandDialect = field(repr=False)
    sublocks: SubLocks = field(repr=False)
    cards: list[str] = field(factory=list)
    settings: Settings = field(factory=Settings, repr=False)
    fences: Fences = field(factory=Fences, repr=False)
    _beats: _Arguments = ("0", "0")
    _sensors: _Arguments = ("60",)
    _update: str = _OTA_BEGUN
    _dynamic: _Arguments = ("1", "0")
    _last_serial: int | None = None

    def __attrs_post_init__(self) -> None:
        self._dynamic = (str(int(self.lock.options.dynamic_password)), "0")

    def on_pnn(self, word: str, arguments: _Arguments, now: float) -> list[bytes]:
        """Process a `Pnn` sentence."""
        counters = self.lock.counters
        counters.commands += 1
        if self.lock.options.mute:
            return []
        answers = self._answers(word, arguments, now)
        if not answers:
            return []
        counters.commands_answered += 1
        frames = [pnn.sentence(self.lock.device, word, *answer) for answer in answers]
        if word == "P52" and answers[0][:2] == ("3", "1"):
            frames.append(self.dialect.report_dynamic_password(now))
        return frames

    def _answers(self, word: str, arguments: _Arguments, now: float) -> list[_Arguments]:
        """Return the arguments of the answers."""
        if word == "P29":
            return self.fences.nodes(arguments)
        if word in SETTINGS:
            answer = self.settings.carry_out(word, arguments, refuse=self.lock.options.refuse)
        elif word in _ECHOED:
            answer = arguments or None
        elif handler := _HANDLERS.get(word):
            answer = handler(self, arguments, now)
        else:
            answer = None
        return [] if answer is None else [answer]

    def on_sentence(self, sentence: Sentence, now: float) -> list[bytes]:
        """Process a grouped sentence; drop one with the last serial (docs/protocol.rst §2.1)."""
        counters = self.lock.counters
        counters.commands += 1
        if sentence.serial == self._last_serial:
            counters.commands_dropped += 1
            return []
        self._last_serial = sentence.serial
        handler = _GROUPED.get((sentence.word, *sentence.arguments[:1]))
        if self.lock.options.mute or handler is None:
            return []
        answer = handler(self, sentence.arguments[1:], now)
        if answer is None:
            return []
        counters.commands_answered += 1
        number = sentence.arguments[0]
        master = master_digits(self.lock.device)
        return [sentences.grouped(master, sentence.serial or 0, sentence.word, number, *answer)]

    # Each method gets the arguments behind the word, or behind WLNET and its number, and returns those of the
    # answer; None for no answer.

    def _unlock(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if len(arguments) != 1:
            return None
        done = self._remote_allowed and self.lock.mechanism.unlock(arguments[0], "password", now)
        return _said(done), str(self.lock.mechanism.tries)

    def _password(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if arguments == ("1",):
            return (self.lock.mechanism.password,)
        return (_said(self.lock.mechanism.set_password(*arguments)),) if len(arguments) == 2 else None

    def _dynamic_password(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("3", given):
                done = self._remote_allowed and self.lock.mechanism.unlock(given, "dynamic_password", now)
                return "3", _said(done), str(self.lock.mechanism.tries)
            case ("1", "0"):
                return "1", *self._dynamic
            case ("0",):
                current = self.lock.mechanism.dynamic_password if self._dynamic[0] == "1" else None
                return ("0", "", "") if current is None else ("0", "000000", current)
            case ("1", "1", ("0" | "1") as on, ("0" | "1") as fence):
                if not self.lock.options.refuse:
                    self._dynamic = (on, fence)
                return "1", *self._dynamic
        return None

    def _cards(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", "3"):
                self.cards = [] if not self.lock.options.refuse else self.cards
                return "3", str(len(self.cards))
            case ("1", ("1" | "2") as step, count, *cards):
                if count != str(len(cards)) or not 0 < len(cards) <= _CARDS_AT_ONCE:
                    return None
                if not all(map(_CARD.fullmatch, cards)):
                    return None
                self._change_cards(step == "1", cards)
                if step == "2":
                    return "2", str(len(self.cards))
                taken = [card for card in cards if card in self.cards]
                return "1", str(len(taken)), *taken
            case ("0", group) if within(group, (1, _MOST_CARDS // _CARDS_AT_ONCE)):
                end = int(group) * _CARDS_AT_ONCE
                cards = self.cards[end - _CARDS_AT_ONCE : end]
                return group, str(len(cards)), *cards
        return None

    def _change_cards(self, add: bool, cards: list[str]) -> None:
        if not self.lock.options.refuse:
            rest = [card for card in self.cards if card not in cards]
            self.cards = (rest + cards if add else rest)[:_MOST_CARDS]

    def _fence(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return self.fences.head(arguments)

    def _delete_fence(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return ("0",) if self.lock.options.refuse else self.fences.delete(arguments)

    def _fences_configured(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return None if arguments else ()

    def _records(self, arguments: _Arguments, now: float) -> _Arguments | None:
        memory = self.lock.buffer
        match arguments:
            case ("10", "0"):
                return "10", "0", str(memory.unanswered), "0"
            case ("10", "1", "0", "0"):
                if not self.lock.options.refuse:
                    memory.clear()
                return arguments
        return None

    def _firmware(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return FIRMWARE, f"{round(self.lock.vehicle.battery)}%"

    def _imei(self, arguments: _Arguments, now: float) -> _Arguments | None:
        return ("86" + self.lock.device.zfill(13),)

    def _sim(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if arguments not in (("1", "0"), ("2", "0")):
            return None
        return arguments[0], "8931" + arguments[0] + self.lock.device.zfill(15)

    def _restart(self, arguments: _Arguments, now: float) -> _Arguments | None:
        self.lock.disconnect_for(now, RESTART_SECONDS)
        return ()

    def _sleep(self, arguments: _Arguments, now: float) -> _Arguments | None:
        self.lock.disconnect_for(now, _SLEEP_SECONDS)
        return ()

    def _factory_reset(self, arguments: _Arguments, now: float) -> _Arguments | None:
        if not self.lock.options.refuse:
            self.settings.reset()
            self.cards = []
            self.lock.disconnect_for(now, RESTART_SECONDS)
        return ()

    @property
    def _remote_allowed(self) -> bool:
        return self.settings.of(CHANNELS)[_GPRS] == "1"

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
            case ("1", "1", minutes, identity) if within(minutes, (1, 5)):
                # Only the report of the sub-lock says whether it has opened.
                if self.lock.options.refuse or not self.sublocks.unlock(identity, now):
                    self.lock.counters.refused += 1
                return "0", identity
        return None

    def _beat(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", beat, alarm) if all(each == _OFF or within(each, _SECONDS) for each in (beat, alarm)):
                if not self.lock.options.refuse:
                    self._beats = beat, alarm
                    self.sublocks.set_interval(float(beat) or _HARDLY_EVER, now)
            case ("0",):
                pass
            case _:
                return None
        return arguments[0], *self._beats

    def _sensor_interval(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", minutes) if within(minutes, _MINUTES):
                if not self.lock.options.refuse:
                    self._sensors = (minutes,)
            case ("0",):
                pass
            case _:
                return None
        return arguments[0], *self._sensors

    def _firmware_update(self, arguments: _Arguments, now: float) -> _Arguments | None:
        match arguments:
            case ("1", *parts) if len(parts) == _OTA_PARTS:
                self._update = _OTA_FAILED if self.lock.options.refuse else _OTA_BEGUN
            case ("0",) | ("2",):
                pass
            case _:
                return None
        return arguments[0], self._update


def _said(yes: bool) -> str:
    return "1" if yes else "0"


_Handler = Callable[[Jt701Downlink, _Arguments, float], _Arguments | None]
_HANDLERS: Final[dict[str, _Handler]] = {
    "P01": Jt701Downlink._firmware,
    "P13": Jt701Downlink._factory_reset,
    "P14": Jt701Downlink._imei,
    "P15": Jt701Downlink._restart,
    "P24": Jt701Downlink._fence,
    "P30": Jt701Downlink._delete_fence,
    "P31": Jt701Downlink._fences_configured,
    "P32": Jt701Downlink._sleep,
    "P41": Jt701Downlink._cards,
    "P43": Jt701Downlink._unlock,
    "P44": Jt701Downlink._password,
    "P52": Jt701Downlink._dynamic_password,
    "P68": Jt701Downlink._sim,
    "P98": Jt701Downlink._records,
}
_GROUPED: Final[dict[_Arguments, _Handler]] = {
    ("WLNET", "1"): Jt701Downlink._bindings,
    ("WLNET", "2"): Jt701Downlink._sensor_interval,
    ("WLNET", "4"): Jt701Downlink._sublock_firmware,
    ("WLNET", "8"): Jt701Downlink._unlock_sublock,
    ("WLNET", "18"): Jt701Downlink._beat,
    ("OTA", "9"): Jt701Downlink._firmware_update,
}
