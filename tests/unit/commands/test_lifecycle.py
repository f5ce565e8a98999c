"""The life of a command: every state of docs/commands.rst, and what leads there."""

from collections.abc import Callable

import attrs

from jt709c_gateway.commands.evidence import Observation, ObservationKind
from jt709c_gateway.commands.lifecycle import Action, CommandExecution, LifecycleError, Limits
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.replies import (
    Answer,
    DataReply,
    ReplyKind,
    ReplyRule,
    SentenceReply,
    TerminalReply,
)
from jt709c_gateway.util.timestamps import iso
from tests.support.lifecycle import UNLOCKED, WRONG, YES, LifecycleCase, T, run, sent


class PhysicalTests(LifecycleCase):
    def test_all_goes_well(self) -> None:
        """queued, sent, acknowledged, confirmed."""
        one = run()
        self.expect(one.queued(T), "queued")
        self.expect(one.waiting(T + 1), "waiting")
        self.expect(one.waiting(T + 2))
        step = one.writing(T + 3, 7)
        self.expect(step, action=Action.WRITE)
        self.assertEqual(step.transitions[0].fields["writing_at"], iso(T + 3))
        self.expect(one.written(T + 4), "sent")
        self.expect(one.reply(YES, T + 5), "acknowledged")
        self.expect(one.observe(UNLOCKED, T + 6), "confirmed")
        public = one.public()
        self.assertEqual(public["evidence"]["method"], "password")
        for name, at in (("sent_at", 4), ("acknowledged_at", 5), ("confirmed_at", 6), ("ended_at", 6)):
            self.assertEqual(public[name], iso(T + at))
        self.assertIsNone(one.next_deadline)

    def test_writing_once(self) -> None:
        """A physical command is never written twice, however its first writing went."""
        endings: list[Callable[[CommandExecution], object]] = [
            lambda one: None,
            lambda one: one.written(T),
            lambda one: one.write_failed(T, "gone", True),
            lambda one: one.write_failed(T, "gone", False),
            lambda one: one.connection_lost(T),
            lambda one: one.recovered(T),
            lambda one: one.reply(YES, T),
            lambda one: one.deadline(T + 1000),
        ]
        for ending in endings:
            one = run()
            one.writing(T, 7)
            ending(one)
            self.assertRaises(LifecycleError, one.writing, T + 1, 8)
            self.assertEqual(one.attempts, 1)

    def test_refused(self) -> None:
        """A refusal ends it, and nothing changes that."""
        one = sent()
        self.expect(one.reply(WRONG, T + 2), "rejected")
        self.assertEqual(one.reason, "wrong password")
        self.expect(one.observe(UNLOCKED, T + 6))
        self.expect(one.reply(YES, T + 7))
        self.assertEqual(one.state, CommandState.REJECTED)

    def test_the_clock_is_set_while_it_awaits_its_answer(self) -> None:
        """It has the time that it had left; its ttl is never made longer."""
        for change in (3600.0, -3600.0):
            one = sent()
            one.clock_set(change)
            self.assertEqual(one.next_deadline, T + 31 + change)
            self.expect(one.deadline(T + change + 30))
            self.expect(one.deadline(T + change + 31), "uncertain")
        for change, ends in ((3600.0, T + 300), (-3600.0, T + 300 - 3600)):
            one = run()
            one.queued(T)
            one.clock_set(change)
            self.assertEqual(one.next_deadline, ends)

    def test_no_answer(self) -> None:
        """Written and not answered is uncertain; later evidence confirms it."""
        one = sent()
        self.assertEqual(one.next_deadline, T + 31)
        self.expect(one.deadline(T + 30))
        self.expect(one.deadline(T + 31), "uncertain")
        self.assertEqual(one.reason, "no answer within 30 s")
        self.expect(one.observe(UNLOCKED, T + 300), "confirmed")
        self.expect(one.observe(UNLOCKED, T + 301))

    def test_answer_after_the_end(self) -> None:
        """A late answer is kept, and proves nothing."""
        one = sent()
        one.deadline(T + 31)
        step = one.reply(YES, T + 40)
        self.expect(step)
        self.assertEqual(step.transitions[0].fields["answer"]["accepted"], True)
        self.assertEqual(one.state, CommandState.UNCERTAIN)
        self.expect(one.reply(WRONG, T + 41))
        self.assertEqual(one.public()["answer"]["accepted"], True)

    def test_no_evidence(self) -> None:
        """A yes without evidence is unconfirmed; later evidence confirms it."""
        one = sent(limits=Limits(confirm_timeout=60))
        one.reply(YES, T + 2)
        self.expect(one.reply(YES, T + 3))
        self.assertEqual(one.next_deadline, T + 62)
        self.expect(one.deadline(T + 62), "unconfirmed")
        self.assertTrue(one.confirmable)
        self.expect(one.observe(UNLOCKED, T + 90), "confirmed")
        self.assertFalse(one.confirmable)

    def test_patience_reaches_the_confirm_timeout(self) -> None:
        """Evidence counts at least as long as it is waited for."""
        one = sent(limits=Limits(confirm_timeout=7200))
        one.reply(YES, T + 2)
        late = Observation(ObservationKind.LOCK, action="unlocked", method="password", time=T + 7000)
        self.expect(one.observe(late, T + 7000), "confirmed")

    def test_not_understood(self) -> None:
        """An answer that nobody understands leaves the fate open."""
        one = sent()
        self.expect(one.reply(Answer(False, "answered 9", understood=False), T + 2), "uncertain")
        self.expect(one.observe(UNLOCKED, T + 6), "confirmed")

    def test_evidence_before_the_answer(self) -> None:
        """The lock moved: that is all there is to know."""
        one = sent()
        self.expect(one.observe(UNLOCKED, T + 6), "confirmed")
        self.expect(one.reply(YES, T + 7))

    def test_evidence_before_writing(self) -> None:
        """What happens before the command is written is not its effect."""
        one = run()
        self.expect(one.observe(UNLOCKED, T + 6))

    def test_write_failures(self) -> None:
        """Nothing written: failed. Perhaps something: uncertain."""
        for nothing_written, state in ((True, "failed"), (False, "uncertain")):
            one = run()
            one.writing(T, 7)
            self.expect(one.write_failed(T, "connection closed", nothing_written), state)
            self.assertEqual(one.reason, "connection closed")
            self.expect(one.written(T + 1))
            self.expect(one.write_failed(T + 1, "again", True))

    def test_connection_lost(self) -> None:
        """Before writing it waits again; after it, its fate is unknown; after a yes it goes on."""
        one = run()
        self.expect(one.connection_lost(T), "waiting", action=Action.REQUEUE)
        self.expect(one.connection_lost(T), action=Action.REQUEUE)
        one = run()
        one.writing(T, 7)
        self.expect(one.connection_lost(T), "uncertain")
        one = sent()
        one.reply(YES, T + 2)
        self.expect(one.connection_lost(T + 3))
        self.assertEqual(one.state, CommandState.ACKNOWLEDGED)

    def test_recovered(self) -> None:
        """After a crash: queued if unwritten, uncertain if perhaps written, watched on if acknowledged."""
        self.expect(run().recovered(T), action=Action.REQUEUE)
        one = run()
        one.waiting(T)
        self.expect(one.recovered(T), "queued", action=Action.REQUEUE)
        self.expect(run().recovered(T + 300), "expired")
        one = run()
        one.writing(T, 7)
        self.expect(one.recovered(T), "uncertain")
        self.expect(one.recovered(T))
        one = sent()
        one.reply(YES, T + 2)
        self.expect(one.recovered(T + 100))
        self.expect(one.recovered(T + 122), "unconfirmed")

    def test_nothing_can_confirm(self) -> None:
        """A raw command that was answered is unconfirmed at once: no evidence is named."""
        one = sent("raw", params={"hex": "7e7e"})
        self.expect(one.reply(Answer(True), T + 2), "acknowledged", "unconfirmed")
        self.assertFalse(one.confirmable)


class PlainTests(LifecycleCase):
    """Commands that move nothing."""

    def test_done(self) -> None:
        """An answer ends it."""
        one = sent("query")
        self.expect(one.reply(Answer(True, arguments=("v2",)), T + 2), "done")
        self.assertEqual(one.public()["answer"]["arguments"], ["v2"])

    def test_refused(self) -> None:
        """So does a refusal, understood or not."""
        for understood in (True, False):
            one = sent("locate")
            self.expect(one.reply(Answer(False, "no", understood=understood), T + 2), "rejected")

    def test_repeats(self) -> None:
        """It is repeated under new serials, so often, and then timed out."""
        one = run("query")
        now = T
        for serial in (1, 2, 3):
            self.expect(one.writing(now, serial), action=Action.WRITE)
            self.expect(one.written(now), "sent")
            self.assertRaises(LifecycleError, one.writing, now, 9)
            now += 30
            self.assertEqual(one.next_deadline, now)
            if serial < 3:
                self.expect(one.deadline(now), action=Action.RESEND)
        self.expect(one.deadline(now), "timed_out")
        self.assertEqual((one.reason, one.serials), ("no answer within 30 s, written 3 times", [1, 2, 3]))

    def test_fewer_repeats(self) -> None:
        """The profile or the gateway may allow fewer."""
        one = sent("restart")
        self.expect(one.deadline(T + 31), "timed_out")
        one = sent("query", Limits(repeats=1))
        self.expect(one.deadline(T + 31), "timed_out")

    def test_answer_to_an_earlier_writing(self) -> None:
        """A late answer under the first serial still answers the command."""
        one = sent("query")
        one.deadline(T + 31)
        one.writing(T + 31, 8)
        for serial in (7, 8):
            self.assertEqual(
                one.match(SentenceReply(serial, "BASE", 1, ("v2",))), Answer(True, arguments=("v2",))
            )
        self.assertIsNone(one.match(SentenceReply(9, "BASE", 1, ("v2",))))
        self.expect(one.reply(YES, T + 32), "done")

    def test_resend_forgotten(self) -> None:
        """A command that was to be repeated and was not still ends."""
        one = sent("query", ttl=10.0)
        self.expect(one.deadline(T + 31), action=Action.RESEND)
        self.assertEqual(one.next_deadline, T + 61)
        self.expect(one.deadline(T + 61), "expired")
        self.assertIn("written once", one.reason or "")

    def test_resend_after_ttl(self) -> None:
        """The ttl bounds the waiting for a lock, not the repeats to one that is there."""
        one = sent("query", ttl=10.0)
        one.deadline(T + 31)
        self.expect(one.writing(T + 31, 8), action=Action.WRITE)

    def test_connection_lost(self) -> None:
        """It waits for the lock and is written again, but not for ever."""
        one = run("query")
        for serial in (1, 2):
            one.writing(T, serial)
            self.expect(one.connection_lost(T), "waiting", action=Action.REQUEUE)
        one.writing(T, 3)
        self.expect(one.connection_lost(T), "timed_out")

    def test_lost_between_resend_and_writing(self) -> None:
        """It goes back to waiting, where the ttl counts."""
        one = sent("query")
        one.deadline(T + 31)
        self.expect(one.connection_lost(T + 32), "waiting", action=Action.REQUEUE)
        self.assertEqual(one.next_deadline, T + 300)
        self.expect(one.writing(T + 300, 8), "expired")

    def test_write_failures(self) -> None:
        """Failures to write are repeated too, and end as failed."""
        one = run("query")
        for serial in (1, 2):
            one.writing(T, serial)
            self.expect(one.write_failed(T, "gone", False), "waiting", action=Action.REQUEUE)
        one.writing(T, 3)
        self.expect(one.write_failed(T, "gone", True), "failed")

    def test_recovered(self) -> None:
        """After a crash it is queued again, within its repeats."""
        one = sent("query")
        self.expect(one.recovered(T + 2), "queued", action=Action.REQUEUE)
        one = sent("restart")
        self.expect(one.recovered(T + 2), "timed_out")

    def test_data_after_done(self) -> None:
        """A "done" before the data only acknowledges."""
        one = sent("locate")
        heard = one.match(TerminalReply(7, 0x8201, 0))
        assert heard is not None
        self.expect(one.reply(heard, T + 2), "acknowledged")
        self.expect(one.reply(heard, T + 3))
        self.assertRaises(LifecycleError, one.writing, T + 3, 8)
        data = one.match(DataReply(7, 0x0201, {"latitude": 22.5}))
        assert data is not None
        self.expect(one.reply(data, T + 4), "done")
        self.assertEqual(one.public()["answer"]["data"], {"latitude": 22.5})

    def test_data_never_come(self) -> None:
        """The lock said yes: that is what is reported."""
        for end in (lambda one: one.deadline(T + 32), lambda one: one.recovered(T + 3)):
            one = sent("locate")
            one.reply(Answer(True, final=False), T + 2)
            self.expect(one.connection_lost(T + 2))
            self.assertEqual(one.next_deadline, T + 32)
            self.expect(end(one), "done")
            self.assertIn("data never came", one.reason or "")

    def test_no_answer_expected(self) -> None:
        """A command that the lock does not answer is done when it is written."""
        one = run("text", params={"text": "x"})
        assert one.spec is not None
        one.assign(attrs.evolve(one.spec, reply=ReplyRule(ReplyKind.NONE)))
        one.writing(T, 7)
        self.expect(one.written(T), "sent", "done")

    def test_answer_before_anything_was_written(self) -> None:
        """An answer to a command that was never written is none."""
        one = run("query")
        self.assertIsNone(one.match(SentenceReply(7, "BASE", 1)))
        self.expect(one.reply(YES, T))
