"""What a virtual lock does when the gateway tells it something (PROTOCOL.md §1, §2.1, §4).

The JT/T 808 orders are the standard's. The `ELOCK` sentences are no more than what the shipped `jt709`
profile assumes::

    ELOCK,1,1,password      -> ELOCK,1,1     or ELOCK,1,0,wrong tries    unlock
    ELOCK,4,1               -> ELOCK,4,1     or ELOCK,4,0                seal
    ELOCK,5,1,new,old       -> ELOCK,5,1     or ELOCK,5,0                change the static password
    ELOCK,6,1,password      -> ELOCK,6,1     or ELOCK,6,0,wrong tries    unlock, dynamic password
    BASE,1                  -> BASE,1,JT709C_SIM_1.0                     firmware
    BASE,2,yyyyMMddHHmmss   -> BASE,2,1      or BASE,2,0                 set the clock, UTC
"""

from collections.abc import Callable
from random import Random
from struct import Struct
from typing import Final, Protocol

from attrs import define, field

from jt709c_gateway.protocol import jt808, sentences
from jt709c_gateway.protocol.lock_events import PASSWORD_LENGTH
from jt709c_gateway.protocol.sentences import Sentence
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.options import FACTORY_PASSWORD, LockOptions
from jt709c_gateway.simulator.unit import Unit

FIRMWARE: Final = "JT709C_SIM_1.0"
MODEL: Final = "JT709C"
#: Lock events (PROTOCOL.md §1.1): a password that was taken, with its result, and one that was refused.
_OPENED: Final = 0x01
_OPENED_RESULT: Final = 0x00
_REFUSED: Final = 0x06
#: Wrong passwords in a row that raise the alarm (PROTOCOL.md §4).
_TRIES: Final = 5

SET_PARAMETERS: Final = 0x8103
QUERY_PARAMETERS: Final = 0x8104
CONTROL: Final = 0x8105
QUERY_SOME_PARAMETERS: Final = 0x8106
QUERY_ATTRIBUTES: Final = 0x8107
LOCATE: Final = 0x8201
TEXT: Final = 0x8300
_RESTART: Final = 4
_FACTORY_RESET: Final = 5
_RESTART_SECONDS: Final = 5.0
_DONE, _FAILED, _WRONG, _UNSUPPORTED = range(4)

_ANSWER = Struct(">HHB")
_PARAMETER = Struct(">IB")
_ATTRIBUTES = Struct(">H5s20s7s10s")
#: JT/T 808 parameters: heartbeat and report intervals, in seconds.
_HEARTBEAT_PARAMETER: Final = 0x0001
_INTERVAL_PARAMETER: Final = 0x0029
_MOST_PARAMETERS: Final = 64
_LONGEST_BODY: Final = 1000


class Duties(Protocol):
    """What carrying out orders needs of the lock around it."""

    def encode(self, message_id: int, body: bytes) -> bytes:
        """A frame under the lock's next serial."""

    def sentence(self, *words: str) -> bytes:
        """A grouped sentence under the lock's own next serial."""

    def report(self, now: float, lock_event: bytes = b"") -> None:
        """Make a location report of this moment."""

    def answer_location(self, now: float, serial: int) -> None:
        """Make a 0x0201 that answers the query `serial`."""

    def set_clock(self, now: float, text: str) -> bool:
        """Set the clock to `yyyyMMddHHmmss`; False when that is no time."""

    def nap(self, now: float, seconds: float) -> None:
        """Hang up and come back."""


@define(eq=False)
class Orders:
    """Carries out orders for one lock; what it gives back are frames to be sent at once."""

    device: str
    options: LockOptions
    unit: Unit
    counters: Counters
    duties: Duties = field(repr=False)
    password: str = field(repr=False)
    dynamic_password: str | None = field(default=None, repr=False)
    #: Wrong passwords in a row.
    tries: int = 0
    _last_serial: int | None = None
    _dynamic_made: int = 0
    _parameters: dict[int, bytes] = field(factory=dict, repr=False)

    def new_dynamic_password(self) -> bytes:
        """Throw dice for another one; the sentence `ELOCK,3,password` that reports it."""
        self._dynamic_made += 1
        dice = Random(f"{self.options.seed}:{self.device}:{self._dynamic_made}")
        self.dynamic_password = f"{dice.randrange(10**PASSWORD_LENGTH):0{PASSWORD_LENGTH}d}"
        return self.duties.sentence("ELOCK", "3", self.dynamic_password)

    def on_sentence(self, sentence: Sentence, now: float) -> list[bytes]:
        """A grouped sentence. One that repeats the last one's serial is dropped (PROTOCOL.md §2.1)."""
        self.counters.orders += 1
        if sentence.serial == self._last_serial:
            self.counters.orders_dropped += 1
            return []
        self._last_serial = sentence.serial
        if self.options.mute:
            return []
        number = sentence.arguments[0] if sentence.arguments else ""
        handler = _SENTENCES.get((sentence.word, number))
        answer = handler(self, sentence.arguments[1:], now) if handler else None
        if answer is None:
            return []
        self.counters.orders_answered += 1
        frames = [sentences.grouped(self.device, sentence.serial or 0, sentence.word, number, *answer)]
        if sentence.starts[:2] == ("ELOCK", "6") and answer == ("1",):
            frames.append(self.new_dynamic_password())
        return frames

    def on_binary(self, message_id: int, serial: int, body: bytes, now: float) -> list[bytes]:
        """A JT/T 808 order, answered with 0x0001 or with the data it asks for."""
        self.counters.orders += 1
        if self.options.mute:
            return []
        self.counters.orders_answered += 1
        if self.options.refuse:
            result = _FAILED
        elif handler := _DATA.get(message_id):
            return handler(self, serial, body, now)
        elif action := _ACTIONS.get(message_id):
            result = action(self, body, now)
        else:
            result = _UNSUPPORTED
        return [self.duties.encode(jt808.TERMINAL_ANSWER, _ANSWER.pack(serial, message_id, result))]

    # Each of these gets what follows the group and its number, and gives what the answer has there; None
    # is silence.

    def _unlock(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) < 2 or arguments[0] != "1":
            return None
        return self._open(arguments[1], self.password, now)

    def _unlock_dynamic(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) < 2 or arguments[0] != "1":
            return None
        return self._open(arguments[1], self.dynamic_password, now)

    def _open(self, given: str, right: str | None, now: float) -> tuple[str, ...]:
        shown = given.encode("latin-1")[:PASSWORD_LENGTH].ljust(PASSWORD_LENGTH, b" ")
        if self.options.refuse or right is None or given != right:
            self.tries += 1
            self.counters.refused += 1
            if self.tries >= _TRIES:
                self.unit.wrong_passwords(True)
            self.duties.report(now, bytes([_REFUSED]) + shown)
            return "0", str(self.tries)
        self.tries = 0
        self.unit.wrong_passwords(False)
        if not self.options.no_evidence:
            self.unit.motor_open = True
            self.counters.unlocked += 1
            self.duties.report(now, bytes([_OPENED]) + shown + bytes([_OPENED_RESULT]))
        return ("1",)

    def _seal(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if arguments[:1] != ("1",):
            return None
        if self.options.refuse:
            self.counters.refused += 1
            return ("0",)
        if not self.options.no_evidence:
            self.unit.motor_open = self.unit.rope_open = False
            self.counters.sealed += 1
            self.duties.report(now)
        return ("1",)

    def _set_password(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) < 3 or arguments[0] != "1":
            return None
        new, old = arguments[1:3]
        if self.options.refuse or old != self.password or len(new) != PASSWORD_LENGTH:
            self.counters.refused += 1
            return ("0",)
        self.password = new
        return ("1",)

    def _firmware(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        return (FIRMWARE,)

    def _sync_time(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) != 1:
            return None
        known = not self.options.refuse and self.duties.set_clock(now, arguments[0])
        return ("1",) if known else ("0",)

    # JT/T 808 orders that ask for data.

    def _locate(self, serial: int, body: bytes, now: float) -> list[bytes]:
        self.duties.answer_location(now, serial)
        return []

    def _attributes(self, serial: int, body: bytes, now: float) -> list[bytes]:
        """0x0107: type u16, maker[5], model[20], id[7], ICCID BCD[10], hardware, firmware; PROTOCOL.md §1."""
        iccid = bytes.fromhex("8931" + self.device.zfill(16))
        head = _ATTRIBUTES.pack(0, b"SIMUL", MODEL.encode(), self.device[-7:].encode(), iccid)
        texts = b"".join(bytes([len(text)]) + text.encode() for text in ("SIM", FIRMWARE))
        return [self.duties.encode(jt808.ATTRIBUTES, head + texts + b"\x00\x00")]

    def _all_parameters(self, serial: int, body: bytes, now: float) -> list[bytes]:
        return self._tell_parameters(serial, self._current())

    def _some_parameters(self, serial: int, body: bytes, now: float) -> list[bytes]:
        """0x8106: count u8, ids u32. What the lock doesn't have is left out."""
        wanted = {int.from_bytes(body[at : at + 4], "big") for at in range(1, len(body) - 3, 4)}
        return self._tell_parameters(
            serial, {number: value for number, value in self._current().items() if number in wanted}
        )

    def _tell_parameters(self, serial: int, parameters: dict[int, bytes]) -> list[bytes]:
        items = [_PARAMETER.pack(number, len(value)) + value for number, value in parameters.items()]
        while sum(map(len, items)) > _LONGEST_BODY:
            items.pop()
        body = serial.to_bytes(2, "big") + bytes([len(items)]) + b"".join(items)
        return [self.duties.encode(jt808.PARAMETERS, body)]

    def _current(self) -> dict[int, bytes]:
        built_in = {
            _HEARTBEAT_PARAMETER: int(self.options.heartbeat).to_bytes(4, "big"),
            _INTERVAL_PARAMETER: int(self.options.interval).to_bytes(4, "big"),
        }
        return built_in | self._parameters

    # JT/T 808 orders that 0x0001 answers.

    def _set_parameters(self, body: bytes, now: float) -> int:
        """0x8103: count u8, then id u32, length u8, value. They are remembered, and change nothing else."""
        found: dict[int, bytes] = {}
        position = 1
        while position + _PARAMETER.size <= len(body):
            number, length = _PARAMETER.unpack_from(body, position)
            position += _PARAMETER.size + length
            found[number] = body[position - length : position]
        if not found or position != len(body) or body[0] != len(found):
            return _WRONG
        if len(self._parameters | found) > _MOST_PARAMETERS:
            return _FAILED
        self._parameters.update(found)
        return _DONE

    def _control(self, body: bytes, now: float) -> int:
        if not body:
            return _WRONG
        if body[0] == _FACTORY_RESET:
            self.password, self.tries = FACTORY_PASSWORD, 0
            self._parameters.clear()
        if body[0] in (_RESTART, _FACTORY_RESET):
            self.duties.nap(now, _RESTART_SECONDS)
        return _DONE

    def _text(self, body: bytes, now: float) -> int:
        return _DONE if len(body) > 1 else _WRONG


_SentenceHandler = Callable[[Orders, tuple[str, ...], float], tuple[str, ...] | None]
_SENTENCES: Final[dict[tuple[str, str], _SentenceHandler]] = {
    ("ELOCK", "1"): Orders._unlock,
    ("ELOCK", "4"): Orders._seal,
    ("ELOCK", "5"): Orders._set_password,
    ("ELOCK", "6"): Orders._unlock_dynamic,
    ("BASE", "1"): Orders._firmware,
    ("BASE", "2"): Orders._sync_time,
}
_DATA: Final[dict[int, Callable[[Orders, int, bytes, float], list[bytes]]]] = {
    LOCATE: Orders._locate,
    QUERY_ATTRIBUTES: Orders._attributes,
    QUERY_PARAMETERS: Orders._all_parameters,
    QUERY_SOME_PARAMETERS: Orders._some_parameters,
}
_ACTIONS: Final[dict[int, Callable[[Orders, bytes, float], int]]] = {
    SET_PARAMETERS: Orders._set_parameters,
    CONTROL: Orders._control,
    TEXT: Orders._text,
}
