"""Handles what the gateway sends to a virtual jt709 or jt705 (docs/protocol.rst §1, §2.1, §4).

The JT/T 808 commands are the standard's. The `ELOCK` sentences are no more than what the shipped `jt709`
profile assumes (`jt705` shares it)::

    ELOCK,1,1,password      -> ELOCK,1,1     or ELOCK,1,0,wrong tries    unlock
    ELOCK,4,1               -> ELOCK,4,1     or ELOCK,4,0                seal
    ELOCK,5,1,new,old       -> ELOCK,5,1     or ELOCK,5,0                change the static password
    ELOCK,6,1,password      -> ELOCK,6,1     or ELOCK,6,0,wrong tries    unlock, dynamic password
    BASE,1                  -> BASE,1,JT709C_SIM_1.0                     firmware
    BASE,2,yyyyMMddHHmmss   -> BASE,2,1      or BASE,2,0                 set the clock, UTC
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, Protocol

from attrs import define, field

from jt709c_gateway.protocol import jt808, jt808_messages, sentences
from jt709c_gateway.protocol.events import Attributes
from jt709c_gateway.protocol.sentences import Sentence
from jt709c_gateway.protocol.terminal_attributes import encode as encode_attributes
from jt709c_gateway.simulator.dialect import Host

RESTART_SECONDS: Final = 5.0
_DONE, _FAILED, _WRONG, _UNSUPPORTED = range(4)

_PARAMETER = Struct(">IB")
#: JT/T 808 parameters: heartbeat and report intervals, in seconds.
_HEARTBEAT_PARAMETER: Final = 0x0001
_INTERVAL_PARAMETER: Final = 0x0029
_MOST_PARAMETERS: Final = 64
_LONGEST_BODY: Final = 1000


class CommandDialect(Protocol):
    """The interface of the dialect for commands."""

    def encode(self, message_id: int, body: bytes) -> bytes:
        """Encode a frame with the next serial."""

    def report_dynamic_password(self, now: float) -> bytes:
        """Make a new dynamic password and report it."""

    def answer_location(self, now: float, serial: int) -> None:
        """Make a 0x0201 as the answer to the query `serial`."""


@define(eq=False)
class Jt709Downlink:
    """Executes the commands of one lock; methods return the frames to send."""

    lock: Host = field(repr=False)
    dialect: CommandDialect = field(repr=False)
    model: str
    _last_serial: int | None = None
    _parameters: dict[int, bytes] = field(factory=dict, repr=False)

    @property
    def firmware(self) -> str:
        """The name of the firmware."""
        return f"{self.model}_SIM_1.0"

    def on_sentence(self, sentence: Sentence, now: float) -> list[bytes]:
        """Process a grouped sentence; drop one with the last serial (docs/protocol.rst §2.1)."""
        counters = self.lock.counters
        counters.commands += 1
        if sentence.serial == self._last_serial:
            counters.commands_dropped += 1
            return []
        self._last_serial = sentence.serial
        if self.lock.options.mute:
            return []
        number = sentence.arguments[0] if sentence.arguments else ""
        handler = _SENTENCES.get((sentence.word, number))
        answer = handler(self, sentence.arguments[1:], now) if handler else None
        if answer is None:
            return []
        counters.commands_answered += 1
        frames = [sentences.grouped(self.lock.device, sentence.serial or 0, sentence.word, number, *answer)]
        if sentence.starts[:2] == ("ELOCK", "6") and answer == ("1",):
            frames.append(self.dialect.report_dynamic_password(now))
        return frames

    def on_binary(self, message_id: int, serial: int, body: bytes, now: float) -> list[bytes]:
        """Process a JT/T 808 command; answer with 0x0001 or the requested data."""
        self.lock.counters.commands += 1
        if self.lock.options.mute:
            return []
        self.lock.counters.commands_answered += 1
        if self.lock.options.refuse:
            result = _FAILED
        elif handler := _DATA.get(message_id):
            return handler(self, serial, body, now)
        elif action := _ACTIONS.get(message_id):
            result = action(self, body, now)
        else:
            result = _UNSUPPORTED
        answer = jt808_messages.encode_terminal_answer(serial, message_id, result)
        return [self.dialect.encode(jt808.TERMINAL_ANSWER, answer)]

    # Each method gets the arguments behind group and number, and returns those of the answer; None for no
    # answer.

    def _unlock(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) < 2 or arguments[0] != "1":
            return None
        return self._opened(self.lock.mechanism.unlock(arguments[1], "password", now))

    def _unlock_dynamic(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) < 2 or arguments[0] != "1":
            return None
        return self._opened(self.lock.mechanism.unlock(arguments[1], "dynamic_password", now))

    def _opened(self, done: bool) -> tuple[str, ...]:
        return ("1",) if done else ("0", str(self.lock.mechanism.tries))

    def _seal(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        return _said(self.lock.mechanism.seal(now)) if arguments[:1] == ("1",) else None

    def _set_password(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) < 3 or arguments[0] != "1":
            return None
        return _said(self.lock.mechanism.set_password(*arguments[1:3]))

    def _firmware(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        return (self.firmware,)

    def _sync_time(self, arguments: tuple[str, ...], now: float) -> tuple[str, ...] | None:
        if len(arguments) != 1:
            return None
        return _said(not self.lock.options.refuse and self.lock.set_clock(now, arguments[0]))

    # JT/T 808 commands that request data.

    def _locate(self, serial: int, body: bytes, now: float) -> list[bytes]:
        self.dialect.answer_location(now, serial)
        return []

    def _attributes(self, serial: int, body: bytes, now: float) -> list[bytes]:
        iccid = "8931" + self.lock.device.zfill(16)
        attributes = Attributes(
            0, "SIMUL", self.model, self.lock.device[-7:], iccid, hardware="SIM", firmware=self.firmware
        )
        return [self.dialect.encode(jt808.ATTRIBUTES, encode_attributes(attributes))]

    def _all_parameters(self, serial: int, body: bytes, now: float) -> list[bytes]:
        return self._tell_parameters(serial, self._current())

    def _some_parameters(self, serial: int, body: bytes, now: float) -> list[bytes]:
        """0x8106: count u8, ids u32. Unknown ids are omitted."""
        wanted = {int.from_bytes(body[at : at + 4], "big") for at in range(1, len(body) - 3, 4)}
        return self._tell_parameters(
            serial, {number: value for number, value in self._current().items() if number in wanted}
        )

    def _tell_parameters(self, serial: int, parameters: dict[int, bytes]) -> list[bytes]:
        # The standard would split a longer answer.
        while sum(_PARAMETER.size + len(value) for value in parameters.values()) > _LONGEST_BODY:
            parameters.popitem()
        return [self.dialect.encode(jt808.PARAMETERS, jt808_messages.encode_parameters(serial, parameters))]

    def _current(self) -> dict[int, bytes]:
        built_in = {
            _HEARTBEAT_PARAMETER: int(self.lock.options.heartbeat).to_bytes(4, "big"),
            _INTERVAL_PARAMETER: int(self.lock.options.interval).to_bytes(4, "big"),
        }
        return built_in | self._parameters

    # JT/T 808 commands answered with 0x0001.

    def _set_parameters(self, body: bytes, now: float) -> int:
        """0x8103: count u8, then id u32, length u8, value. The values are stored without further effect."""
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
        if body[0] == jt808.FACTORY_RESET:
            self.lock.mechanism.reset()
            self._parameters.clear()
        if body[0] in (jt808.RESTART, jt808.FACTORY_RESET):
            self.lock.disconnect_for(now, RESTART_SECONDS)
        return _DONE

    def _text(self, body: bytes, now: float) -> int:
        return _DONE if len(body) > 1 else _WRONG


def _said(yes: bool) -> tuple[str, ...]:
    return ("1",) if yes else ("0",)


_SentenceHandler = Callable[[Jt709Downlink, tuple[str, ...], float], tuple[str, ...] | None]
_SENTENCES: Final[dict[tuple[str, str], _SentenceHandler]] = {
    ("ELOCK", "1"): Jt709Downlink._unlock,
    ("ELOCK", "4"): Jt709Downlink._seal,
    ("ELOCK", "5"): Jt709Downlink._set_password,
    ("ELOCK", "6"): Jt709Downlink._unlock_dynamic,
    ("BASE", "1"): Jt709Downlink._firmware,
    ("BASE", "2"): Jt709Downlink._sync_time,
}
_DATA: Final[dict[int, Callable[[Jt709Downlink, int, bytes, float], list[bytes]]]] = {
    jt808.LOCATE: Jt709Downlink._locate,
    jt808.QUERY_ATTRIBUTES: Jt709Downlink._attributes,
    jt808.QUERY_PARAMETERS: Jt709Downlink._all_parameters,
    jt808.QUERY_SOME_PARAMETERS: Jt709Downlink._some_parameters,
}
_ACTIONS: Final[dict[int, Callable[[Jt709Downlink, bytes, float], int]]] = {
    jt808.SET_PARAMETERS: Jt709Downlink._set_parameters,
    jt808.CONTROL: Jt709Downlink._control,
    jt808.TEXT: Jt709Downlink._text,
}
