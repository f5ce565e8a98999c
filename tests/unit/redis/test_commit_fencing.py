"""commit.lua against a real server: what comes too late, of a command or of a lock, leaves nothing behind."""

from datetime import timedelta
from typing import Any

from jt709c_gateway.commands.model import ENDED, CommandState
from jt709c_gateway.protocol import jt808
from jt709c_gateway.redis.commit_records import (
    AffirmSession,
    AnswerCondition,
    EventsRecord,
    EvidenceCondition,
    HeldCondition,
    RequeueCondition,
    UnknownCondition,
)
from tests.support.committer import Teller
from tests.unit.redis.test_commit_script import ScriptCase, report
from tests.vectors import MOMENT

HOLDER, COMMAND = "gw1/1-a", "o1"
DEVICE = "794308010679"


class ConditionTests(ScriptCase):
    """The record of a command's step is written as long as the command is this claim's, not beyond its
    end."""

    def record(self, **fields: Any) -> None:
        """Let the command's record be this."""
        key = self.script.keys.command(COMMAND)
        self.client.call("DEL", key)
        if fields:
            self.client.call("HSET", key, *[part for item in fields.items() for part in item])

    def holds(self, kind: type[Any], **claim: str) -> bool:
        """Whether a record with this condition is written; that nothing is, where it isn't."""
        before = len(self.script.events("command"))
        condition = kind(key=self.script.keys.command(COMMAND), **claim)
        step = EventsRecord(
            device=DEVICE, events=[("command", "{}")], commands=[("SET", self.key, 1)], condition=condition
        )
        outcome = self.script.commit([step])
        written = self.client.call("GETDEL", self.key) == b"1"
        self.assertEqual(len(self.script.events("command")) - before, int(written))
        self.assertEqual(outcome, 0 if written else [0, 0, b"LATE"])
        return written

    def setUp(self) -> None:
        super().setUp()
        self.key = f"{self.script.keys.prefix}:written"

    def test_held(self) -> None:
        """Holder and token have to be those of the claim, and the state must be no end."""
        states = [str(state) for state in CommandState]
        for state in states:
            self.record(holder=HOLDER, token=3, state=state, attempts=0)
            self.assertEqual(self.holds(HeldCondition, holder=HOLDER, token="3"), state not in ENDED, state)
            self.assertFalse(self.holds(HeldCondition, holder=HOLDER, token="2"))
            self.assertFalse(self.holds(HeldCondition, holder="gw1/2-b", token="3"))
            self.assertFalse(self.holds(HeldCondition, holder="", token="3"))
        self.record()
        self.assertFalse(self.holds(HeldCondition, holder=HOLDER, token="3"))

    def test_held_with_attempts(self) -> None:
        """A write is recorded only behind those that the claim knows of."""
        self.record(holder=HOLDER, token=1, state="queued", attempts=0)
        self.assertTrue(self.holds(HeldCondition, holder=HOLDER, token="1", attempts="0"))
        self.record(holder=HOLDER, token=1, state="queued", attempts=1)
        self.assertFalse(self.holds(HeldCondition, holder=HOLDER, token="1", attempts="0"))
        self.assertTrue(self.holds(HeldCondition, holder=HOLDER, token="1", attempts="1"))

    def test_put_back(self) -> None:
        """A physical command that may be out doesn't go back to its queue, nor one that may be physical."""
        for physical, attempts, allowed in (
            ("true", 0, True),
            ("", 0, True),
            ("false", 2, True),
            ("true", 1, False),
            ("", 1, False),
        ):
            self.record(holder=HOLDER, token=1, state="queued", attempts=attempts, physical=physical)
            self.assertEqual(
                self.holds(RequeueCondition, holder=HOLDER, token="1"), allowed, (physical, attempts)
            )
            self.assertFalse(self.holds(RequeueCondition, holder=HOLDER, token="2"))

    def test_evidence(self) -> None:
        """Evidence settles what may be out and isn't settled for good, whoever holds it."""
        open_states = {"sent", "acknowledged", "uncertain", "unconfirmed"}
        for state in map(str, CommandState):
            self.record(holder="", token=1, state=state, attempts=1, writing_at="2026-11-30T10:00:00Z")
            not_ended = state not in ENDED
            self.assertEqual(self.holds(EvidenceCondition), state in open_states or not_ended, state)
            self.record(holder="", token=1, state=state, attempts=0, writing_at="")
            self.assertEqual(self.holds(EvidenceCondition), state in open_states, state)
        self.record()
        self.assertFalse(self.holds(EvidenceCondition))

    def test_answer(self) -> None:
        """An answer counts while the outcome is unknown and no answer has been recorded."""
        for state in map(str, CommandState):
            self.record(state=state)
            self.assertEqual(self.holds(AnswerCondition), state == CommandState.UNCERTAIN, state)
            self.record(state=state, answer="{}")
            self.assertFalse(self.holds(AnswerCondition), state)

    def test_unknown(self) -> None:
        """A command that was carried out without a record gets one once."""
        self.record()
        self.assertTrue(self.holds(UnknownCondition))
        self.record(state="done")
        self.assertFalse(self.holds(UnknownCondition))

    def test_repeated_call(self) -> None:
        """A call that is repeated, its reply being lost, says of the same records that they were refused."""
        self.record()
        condition = HeldCondition(key=self.script.keys.command(COMMAND), holder="x", token="1")
        steps = [EventsRecord(device=DEVICE, condition=condition), EventsRecord(device=DEVICE)]
        self.assertEqual(self.script.commit(steps, number=7), [0, 0, b"LATE"])
        self.assertEqual(self.script.commit(steps, number=7)[:2], [-1, 0])


class OlderSessionTests(ScriptCase):
    """What a lock said in an older session is let go once a newer one has been opened, wherever."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.other = Teller("gw1"), Teller("gw2")
        self.assertEqual(self.script.commit(self.one.contents(report(1)), "gw1", "b1"), 0)

    def stale(self, outcome: Any) -> bool:
        """Whether one record was refused since it came from an older session."""
        return isinstance(outcome, list) and outcome[2].startswith(b"STALE gw1/")

    def test_report(self) -> None:
        """A report that another gateway has published since, and one that nobody has, are refused alike."""
        late, only_here = report(2, time=MOMENT), report(3, time=MOMENT + timedelta(seconds=9))
        held = [self.one.reports(late), self.one.reports(only_here)]
        self.assertEqual(self.script.commit(self.other.contents(late), "gw2", "b2"), 0)
        for number, contents in enumerate(held, 2):
            self.assertTrue(self.stale(self.script.commit(contents, "gw1", "b1", number=number)))
        self.assertEqual([event["serial"] for event in self.script.events("location")], [1, 2])

    def test_after_the_newer_session_has_ended(self) -> None:
        """That the newer session is over makes the older one no newer."""
        held = self.one.reports(report(2))
        self.script.commit([*self.other.contents(report(5)), *self.other.leaves()], "gw2", "b2")
        self.assertTrue(self.stale(self.script.commit(held, "gw1", "b1", number=2)))

    def test_other_messages(self) -> None:
        """A heartbeat from the older session is refused as well."""
        held = self.one.contents(self.heartbeat())
        self.script.commit(self.other.contents(report(5)), "gw2", "b2")
        self.assertTrue(self.stale(self.script.commit(held, "gw1", "b1", number=2)))

    def heartbeat(self) -> bytes:
        """A heartbeat of the same lock."""
        return jt808.encode(0x0002, bytes.fromhex(DEVICE), 9, b"")

    def test_forgotten(self) -> None:
        """Where Redis knows of no session, as after it has lost its data, reports are taken."""
        self.client.call("DEL", self.script.keys.device(DEVICE), self.script.keys.session(DEVICE))
        self.assertEqual(self.script.commit(self.one.reports(report(2)), "gw1", "b1", number=2), 0)

    def test_session_isnt_affirmed(self) -> None:
        """An older session does not become the newest again by being affirmed."""
        self.script.commit([*self.other.contents(report(5)), *self.other.leaves()], "gw2", "b2")
        token = f"{self.one.gateway.token_prefix}1"
        session = AffirmSession(token=token, ttl=60, fields=("gateway", "gw1"))
        self.script.commit([EventsRecord(device=DEVICE, session=session)], "gw1", "b1", number=2)
        self.assertEqual(self.client.call("EXISTS", self.script.keys.session(DEVICE)), 0)
