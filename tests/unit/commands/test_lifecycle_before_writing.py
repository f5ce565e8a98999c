"""The life of a command until it is written: it expires, is cancelled, waits, or is prepared."""

from jt709c_gateway.commands.lifecycle import Action, CommandExecution, LifecycleError
from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.profiles import GroupedSentence
from jt709c_gateway.commands.replies import Answer, SentenceReply
from tests.support.lifecycle import JT709, PROFILES, LifecycleCase, T, command, run, sent


class BeforeWritingTests(LifecycleCase):
    def test_expiry(self) -> None:
        """A command is not written after its ttl, not by a hair."""
        one = run(ttl=10.0)
        one.waiting(T)
        self.assertEqual(one.next_deadline, T + 10)
        self.expect(one.deadline(T + 9.9))
        self.expect(one.deadline(T + 10), "expired")
        one = run(ttl=10.0)
        self.expect(one.writing(T + 10, 7), "expired")
        self.assertEqual(one.attempts, 0)

    def test_cancel(self) -> None:
        """It can be taken back until it may be out."""
        self.expect(run().cancel(T), "cancelled")
        one = run()
        one.waiting(T)
        self.expect(one.cancel(T), "cancelled")
        self.expect(one.cancel(T), action=Action.REFUSED)
        one = run()
        one.writing(T, 7)
        self.expect(one.cancel(T), action=Action.REFUSED)
        self.expect(sent().cancel(T + 2), action=Action.REFUSED)

    def test_cancel_between_repeats(self) -> None:
        """A repeat that waits can be taken back, and the reason says what went before."""
        one = sent("query")
        one.connection_lost(T + 2)
        self.expect(one.cancel(T + 3), "cancelled")
        self.assertIn("written once", one.reason or "")

    def test_settle(self) -> None:
        """The gateway may end a command that it did not write, and no other."""
        for state in (CommandState.DONE, CommandState.REJECTED, CommandState.INVALID, CommandState.FAILED):
            one = run()
            self.expect(one.settle(T, state, "why"), str(state))
            self.assertRaises(LifecycleError, one.settle, T, state)
        self.assertRaises(LifecycleError, run().settle, T, CommandState.CONFIRMED)
        self.assertRaises(LifecycleError, sent().settle, T, CommandState.FAILED)

    def test_waiting_too_late(self) -> None:
        """What is out does not wait."""
        self.assertRaises(LifecycleError, sent().waiting, T)
        one = run()
        one.cancel(T)
        self.assertRaises(LifecycleError, one.waiting, T)

    def test_unknown_lock(self) -> None:
        """Without a profile nothing is known or written, and every parameter is masked."""
        one = CommandExecution(command())
        public = one.public()
        self.assertEqual((public["physical"], public["assumed"], public["profile"]), (None, None, None))
        self.assertEqual(public["params"], {"parameter 1": MASK})
        self.assertRaises(LifecycleError, one.writing, T, 7)
        self.assertIsNone(one.match(SentenceReply(7, "ELOCK", 1, ("1",))))
        self.expect(one.waiting(T), "waiting")

    def test_prepare(self) -> None:
        """When the lock comes, its profile says what to write and what to mask."""
        one = CommandExecution(
            command(params={"method": "static"}), secret_names=PROFILES.secret_names("unlock")
        )
        checked = PROFILES.validate(one.command, JT709)
        rendered = one.prepare(checked, T, {"static_password": "554433"})
        self.assertEqual(rendered, GroupedSentence("ELOCK", 1, ("1", "554433")))
        self.assertEqual(
            (one.public()["physical"], one.public()["assumed"], one.public()["profile"]),
            (True, True, "jt709"),
        )
        one.writing(T, 7)
        one.reply(Answer(False, "no 554433", True, ("0", "554433")), T + 1)
        self.assertNotIn("554433", repr(one.public()))
        self.assertEqual(one.public()["answer"]["arguments"], ["0", MASK])
