"""The steps from a message to its record: clocks, commands, states, record."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.event_records import message_record, position_record
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import jt709
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from tests.support.commands import FakeLock, new_device
from tests.support.committer import NOW, Fleet
from tests.support.masters import sublock_report

_REFRESH = ("keep", "token", 60)


class _Watching:
    """Stands for the executor of a session, and keeps the lock states that it finds with each message."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.found: list[Any] = []

    def process_message(self, message: Message, moment: Any, elsewhere: bool = False) -> None:
        sublocks = self.session.sublocks
        self.found.append((self.session.lock_state, dict(sublocks._states) if sublocks else {}))


class StepTests(SynchronousTestCase):
    """Each step by itself."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.link = self.fleet.link()

    def session(self, *frames: bytes) -> Session:
        """The session that these frames have opened."""
        self.fleet.hear(self.link, *frames)
        (session,) = self.fleet.gateway.sessions
        return session

    def test_commands_hear_before_the_state_changes(self) -> None:
        """What a message shows is compared with what was known before it."""
        lock = FakeLock(new_device())
        session = self.session(lock.location(b"", jt709.STATUS_FIX, NOW.timestamp()))
        watching = _Watching(session)
        session.executor = watching  # type: ignore[assignment]
        before = session.lock_state
        self.fleet.hear(
            self.link, lock.location(b"", jt709.STATUS_FIX | jt709.STATUS_MOTOR, NOW.timestamp() + 1)
        )
        self.assertEqual(watching.found, [(before, {})])
        self.assertNotEqual(session.lock_state, before)

    def test_building_a_record_changes_nothing(self) -> None:
        """The same record twice, and the session as it was."""
        position = FakeLock(new_device()).location(b"", jt709.STATUS_FIX, NOW.timestamp())
        peripheral = sublock_report("8000620011", "7591220021", status=1, at=NOW.timestamp())
        session = self.session(position)
        for frame in (position, peripheral):
            (read,) = Framer().feed(frame)
            message = Decoder().decode(read, 0.0)
            assert isinstance(message, Message)
            moment = self.fleet.gateway.events.moment()
            at = session.observe_clocks(message, moment)
            session.observe_state(message, moment, at)
            before = self._state(session)
            records = [
                message_record(session, message, moment, "jt709", lambda: "id", _REFRESH) for _ in range(2)
            ]
            self.assertEqual(records[0], records[1])
            if message.is_position:
                position_record(session, message, moment, "jt709", "id", at)
            self.assertEqual(self._state(session), before)
        self.assertIn("7591220021", before[-1])

    def _state(self, session: Session) -> tuple[Any, ...]:
        """What a session knows of its device."""
        return session.lock_state, session.state_at, repr(session.clock), repr(session.sublocks)
