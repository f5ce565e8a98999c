"""Support for tests of virtual locks: a lock without random events, and a gateway of a few lines."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import LockOptions

START = datetime(2026, 11, 22, 10, 15, tzinfo=UTC).timestamp()
#: Only reports, every ten seconds.
QUIET = {"register": False, "ask_time": 0.0, "dynamic_password": False, "heartbeat": 0.0, "interval": 10.0}
Fact = TypeVar("Fact")


def make_lock(device: str, **options: Any) -> VirtualLock:
    """Make a quiet lock, switched on at `START`."""
    lock = VirtualLock(device, LockOptions(**{**QUIET, **options}))
    lock.start(START)
    return lock


def read(frames: list[bytes]) -> list[Message]:
    """Decode frames as a gateway does; all of them have to be valid."""
    decoder = Decoder(secrets=True)
    messages = []
    for frame in Framer().feed_datagram(b"".join(frames)):
        message = decoder.decode(frame, 0.0)
        assert isinstance(message, Message), message
        messages.append(message)
    assert len(messages) == len(frames), messages
    return messages


def facts(frames: list[bytes], kind: type[Fact]) -> list[Fact]:
    """Return the events of one kind in the frames."""
    return [data for message in read(frames) for _, data in message.events if isinstance(data, kind)]


def answers(frames: list[bytes]) -> bytes:
    """Return a gateway's answers to the frames."""
    now = datetime.fromtimestamp(START, UTC)
    return b"".join(message.answer_at(now) or b"" for message in read(frames))


def online(device: str, **options: Any) -> VirtualLock:
    """Make a lock whose first report has been answered."""
    lock = make_lock(device, **options)
    lock.receive(answers(lock.connected(START)), START)
    return lock


def replies(frames: list[bytes]) -> list[str]:
    """Return the sentences among the frames."""
    return [frame.decode("latin-1") for frame in frames if frame[:1] == b"("]
