"""What answers a command, what proves it, and when to stop trying passwords."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.evidence import EvidenceRule, Observation, ObservationKind, confirms
from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.replies import (
    Answer,
    DataReply,
    PnnReply,
    Reply,
    ReplyKind,
    ReplyRule,
    SentenceReply,
    TerminalReply,
    match,
)

UNLOCK = ReplyRule(
    ReplyKind.SENTENCE,
    group="ELOCK",
    number=1,
    result=0,
    accepted=frozenset({"1"}),
    refused=frozenset({"3"}),
    wrong_password=frozenset({"0"}),
    reasons={"3": "the rope is out"},
)
ALL_REPLIES: list[Reply] = [
    SentenceReply(7, "ELOCK", 1, ("1",)),
    PnnReply("P43", ("1", "0")),
    TerminalReply(7, 0x8104, 0),
    DataReply(7, 0x0104),
]


class SentenceTests(SynchronousTestCase):
    def answer(self, *parameters: str) -> Answer:
        answer = match(UNLOCK, 7, SentenceReply(7, "ELOCK", 1, parameters))
        assert answer is not None
        return answer

    def test_outcomes(self) -> None:
        """A yes, a wrong password, another refusal."""
        self.assertEqual(self.answer("1"), Answer(True, arguments=("1",)))
        self.assertEqual(self.answer("0", "2"), Answer(False, "wrong password", True, ("0", "2")))
        self.assertEqual(self.answer("3"), Answer(False, "the rope is out", arguments=("3",)))

    def test_not_understood(self) -> None:
        """What the profile doesn't list is neither a yes nor a refusal."""
        for parameters in (("9",), (), ("x\n" * 40,)):
            answer = self.answer(*parameters)
            self.assertEqual(
                (answer.accepted, answer.understood, answer.wrong_password), (False, False, False)
            )
            self.assertLess(len(answer.reason or ""), 130)
            self.assertNotIn("\n", answer.reason or "")

    def test_others(self) -> None:
        """Serial, group and number all have to fit."""
        for serial, group, number in [(8, "ELOCK", 1), (7, "BASE", 1), (7, "ELOCK", 6), (None, "ELOCK", 1)]:
            self.assertIsNone(match(UNLOCK, 7, SentenceReply(serial, group, number, ("1",))))
        self.assertIsNone(match(UNLOCK, None, SentenceReply(None, "ELOCK", 1, ("1",))))
        self.assertIsNone(match(UNLOCK, 7, SentenceReply(7, "ELOCK", None, ("1",))))

    def test_without_a_result(self) -> None:
        """Where no argument tells, an answer is a yes."""
        rule = ReplyRule(ReplyKind.SENTENCE, group="BASE", number=1)
        self.assertEqual(
            match(rule, 1, SentenceReply(1, "BASE", 1, ("JT709C_2.1",))),
            Answer(True, arguments=("JT709C_2.1",)),
        )

    def test_secret_arguments(self) -> None:
        """A password in an answer is masked."""
        rule = ReplyRule(ReplyKind.PNN, word="P44", secret_arguments=frozenset({0}))
        self.assertEqual(match(rule, None, PnnReply("P44", ("888888",))), Answer(True, arguments=(MASK,)))

    def test_pnn(self) -> None:
        """By word, and by the first arguments where the word has several uses (docs/protocol.rst, 4: P52)."""
        rule = ReplyRule(
            ReplyKind.PNN,
            word="P52",
            starts=("3",),
            result=1,
            accepted=frozenset({"1"}),
            wrong_password=frozenset({"0"}),
        )
        yes, no = (match(rule, None, PnnReply("P52", ("3", result, "0"))) for result in "10")
        assert yes is not None and no is not None
        self.assertEqual((yes.accepted, no.wrong_password), (True, True))
        self.assertIsNone(match(rule, None, PnnReply("P52", ("2", "123456"))))
        self.assertIsNone(match(rule, None, PnnReply("P43", ("3", "1"))))

    @given(st.tuples(st.text(max_size=5), st.text(max_size=5)))
    def test_only_the_listed_yes_is_a_yes(self, parameters: tuple[str, str]) -> None:
        """No text from a lock is taken for a yes but the one the profile names."""
        self.assertEqual(self.answer(*parameters).accepted, parameters[0] == "1")


class BinaryTests(SynchronousTestCase):
    RULE = ReplyRule(ReplyKind.TERMINAL, message_id=0x8104, data=0x0104, secret_items=frozenset({"0012"}))

    def test_general_answer(self) -> None:
        """0x0001 is matched by serial and id; its result is put into words."""
        rule = ReplyRule(ReplyKind.TERMINAL, message_id=0x8105)
        self.assertEqual(match(rule, 5, TerminalReply(5, 0x8105, 0)), Answer(True, arguments=("0",)))
        for result, words in ((1, "could not"), (2, "wrong"), (3, "support")):
            answer = match(rule, 5, TerminalReply(5, 0x8105, result))
            assert answer is not None
            self.assertIn(words, answer.reason or "")
            self.assertEqual((answer.accepted, answer.understood), (False, True))
        strange = match(rule, 5, TerminalReply(5, 0x8105, 9))
        assert strange is not None
        self.assertEqual((strange.accepted, strange.understood), (False, False))
        self.assertIsNone(match(rule, 5, TerminalReply(6, 0x8105, 0)))
        self.assertIsNone(match(rule, 5, TerminalReply(5, 0x8103, 0)))

    def test_data(self) -> None:
        """The data are the answer; "done" only announces them."""
        heard = match(self.RULE, 5, TerminalReply(5, 0x8104, 0))
        assert heard is not None
        self.assertEqual((heard.accepted, heard.final), (True, False))
        data = match(
            self.RULE, 5, DataReply(5, 0x0104, {"0001": 60, "inner": {"00000012": "pw", "0013": "h"}})
        )
        self.assertEqual(data, Answer(True, data={"0001": 60, "inner": {"00000012": MASK, "0013": "h"}}))
        self.assertIsNone(match(self.RULE, 5, DataReply(6, 0x0104)))
        self.assertIsNone(match(self.RULE, 5, DataReply(5, 0x0201)))

    def test_data_without_a_serial(self) -> None:
        """0x0107 names no serial."""
        rule = ReplyRule(ReplyKind.TERMINAL, message_id=0x8107, data=0x0107)
        self.assertEqual(
            match(rule, 5, DataReply(None, 0x0107, {"maker": "x"})), Answer(True, data={"maker": "x"})
        )

    def test_kinds_do_not_mix(self) -> None:
        """A command in one form is not answered in another."""
        for kind in (ReplyKind.SENTENCE, ReplyKind.PNN, ReplyKind.TERMINAL):
            rule = ReplyRule(kind, group="ELOCK", number=1, word="P43", message_id=0x8104, data=0x0104)
            matching = [reply for reply in ALL_REPLIES if match(rule, 7, reply) is not None]
            self.assertEqual(len(matching), 2 if kind is ReplyKind.TERMINAL else 1)

    def test_none_and_any(self) -> None:
        """Nothing answers some commands, anything others; what it said isn't kept, for it may hold a
        secret."""
        for reply in ALL_REPLIES:
            self.assertIsNone(match(ReplyRule(ReplyKind.NONE), 7, reply))
            answer = match(ReplyRule(ReplyKind.ANY), 7, reply)
            assert answer is not None
            self.assertTrue(answer.accepted)
        self.assertEqual(match(ReplyRule(ReplyKind.ANY), 7, PnnReply("P44", ("888888",))), Answer(True))
        refused = match(ReplyRule(ReplyKind.ANY), 7, TerminalReply(1, 2, 1))
        assert refused is not None
        self.assertFalse(refused.accepted)

    def test_reprs_hold_no_arguments(self) -> None:
        """Replies may carry a password."""
        for reply in (
            SentenceReply(1, "A", 1, ("888888",)),
            PnnReply("P44", ("888888",)),
            DataReply(1, 2, {"0012": "888888"}),
        ):
            self.assertNotIn("8888", repr(reply))


class EvidenceTests(SynchronousTestCase):
    RULE = EvidenceRule(frozenset({"unlocked"}), frozenset({"password"}), "unlocked", within=600)

    def proves(self, observation: Observation, now: float = 1010) -> bool:
        return confirms(self.RULE, observation, 1000, now)

    def lock(
        self, action: str = "unlocked", method: str = "password", time: float | None = 1005
    ) -> Observation:
        return Observation(ObservationKind.LOCK, action=action, method=method, time=time)

    def status(
        self, state: str, before: str | None, time: float | None = 1005, method: str | None = None
    ) -> Observation:
        return Observation(
            ObservationKind.STATUS, lock_state=state, previous_lock_state=before, time=time, method=method
        )

    def test_lock_events(self) -> None:
        """Action and method have to be listed: a card proves no remote unlock."""
        self.assertTrue(self.proves(self.lock()))
        self.assertFalse(self.proves(self.lock(method="card")))
        self.assertFalse(self.proves(self.lock(action="refused")))
        self.assertFalse(self.proves(self.lock(action="locked")))

    def test_status(self) -> None:
        """A status has to change, and not by another method."""
        self.assertTrue(self.proves(self.status("unlocked", "locked")))
        self.assertTrue(self.proves(self.status("unlocked", "locked", method="password")))
        self.assertFalse(self.proves(self.status("unlocked", "locked", method="card")))
        self.assertFalse(self.proves(self.status("unlocked", "unlocked")))
        self.assertFalse(self.proves(self.status("unlocked", None)))
        self.assertFalse(self.proves(self.status("locked", "unlocked")))

    def test_times(self) -> None:
        """What happened before the command proves nothing, but for the seconds that a time may be wrong
        by."""
        for time, result in [
            (940, False),
            (994, False),
            (995, True),
            (1000, True),
            (1600, True),
            (1605, True),
            (1606, False),
        ]:
            self.assertEqual(self.proves(self.lock(time=time), now=5000), result, time)

    def test_no_time(self) -> None:
        """A report without a time counts as of its arrival."""
        self.assertTrue(self.proves(self.lock(time=None), now=1600))
        self.assertFalse(self.proves(self.lock(time=None), now=5000))

    def test_rules_of_one_kind(self) -> None:
        """A rule may name only one of the two."""
        status_only = EvidenceRule(lock_state="locked")
        self.assertTrue(confirms(status_only, self.status("locked", "unlocked"), 1000, 1001))
        self.assertFalse(confirms(status_only, self.lock("locked"), 1000, 1001))
        lock_only = EvidenceRule(frozenset({"locked"}), frozenset({"automatic"}))
        self.assertTrue(confirms(lock_only, self.lock("locked", "automatic"), 1000, 1001))
        self.assertFalse(confirms(lock_only, self.status("locked", "unlocked"), 1000, 1001))

    def test_public(self) -> None:
        """What the command's record says about it."""
        self.assertEqual(self.lock().public(), {"kind": "lock", "action": "unlocked", "method": "password"})
        self.assertEqual(
            self.status("unlocked", "locked").public(),
            {"kind": "status", "lock_state": "unlocked", "previous": "locked"},
        )


class LockoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        commands = load_profiles().profiles["jt709"].commands
        self.unlock, self.seal, self.locate, self.change = (
            commands[name].choose({}) for name in ("unlock", "seal", "locate", "set_password")
        )

    def test_two_in_a_row(self) -> None:
        """Two wrong passwords block unlocks, not what shows none."""
        wrong = Answer(False, "wrong password", wrong_password=True)
        count = lockout.next_count(0, self.unlock, wrong)
        self.assertEqual((count, lockout.blocks(count, self.unlock)), (1, False))
        count = lockout.next_count(count, self.unlock, wrong)
        self.assertEqual((count, lockout.blocks(count, self.unlock)), (2, True))
        for spec in (self.seal, self.locate, self.change):
            self.assertFalse(lockout.blocks(count, spec))

    def test_what_leaves_the_count(self) -> None:
        """A success begins anew; other refusals and other commands leave the count alone."""
        self.assertEqual(lockout.next_count(1, self.unlock, Answer(True)), 0)
        self.assertEqual(lockout.next_count(1, self.unlock, Answer(False, "rope")), 1)
        self.assertEqual(lockout.next_count(1, self.locate, Answer(True)), 1)
        self.assertEqual(lockout.next_count(1, self.change, Answer(False, "x", wrong_password=True)), 2)

    def test_reason(self) -> None:
        """The reason says what lifts it."""
        self.assertIn("clear_lockout", lockout.REASON)
