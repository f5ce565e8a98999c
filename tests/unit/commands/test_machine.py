"""The promises about commands hold whatever happens to a command, in any order."""

import contextlib
import json
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jt709c_gateway.commands.evidence import Observation, ObservationKind
from jt709c_gateway.commands.lifecycle import Action, CommandExecution, LifecycleError, Step
from jt709c_gateway.commands.model import ENDED, Command, CommandState
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.serialization import from_queue_entry, to_hash, to_queue_entry

PROFILES = load_profiles(allow_raw=True)
JT709 = PROFILES.profiles["jt709"]
SECRET, SUPPLIED = "Zq#7!x", "Wv$3?k"
SENTENCE = f"(P43,{SECRET})"
COMMANDS: dict[str, dict[str, Any]] = {
    "unlock": {"password": SECRET},
    "seal": {},
    "set_password": {"new": SECRET},
    "query": {"what": "firmware"},
    "locate": {},
    "restart": {},
    "raw": {"sentence": SENTENCE},
    "set_parameters": {"parameters": {"0012": SECRET, "0001": 5}},
}
TEXTS = st.sampled_from(["0", "1", "no", "{secret}", "x{supplied}y", "{secret}{supplied}"])
ANSWERS = st.builds(
    Answer,
    accepted=st.booleans(),
    reason=st.none() | TEXTS,
    wrong_password=st.booleans(),
    arguments=st.lists(TEXTS, max_size=3).map(tuple),
    data=st.none() | st.dictionaries(st.sampled_from(["0012", "a"]), TEXTS, max_size=2),
    understood=st.booleans(),
    final=st.booleans(),
)
OPEN = (CommandState.UNCONFIRMED, CommandState.UNCERTAIN)


class CommandMachine(RuleBasedStateMachine):
    """Drives one command as a gateway would, with crashes, and counts what reaches the lock."""

    @initialize(command=st.sampled_from(sorted(COMMANDS)), ttl=st.sampled_from([5.0, 300.0]))
    def begin(self, command: str, ttl: float) -> None:
        self.now = 1_700_000_000.0
        self.command = Command("i", "794308010679", command, COMMANDS[command], ttl=ttl, created_at=self.now)
        # A command without secrets has nothing to hide but what the gateway supplied.
        self.secret = (
            {"raw": SENTENCE}.get(command, SECRET) if SECRET in repr(COMMANDS[command]) else SUPPLIED
        )
        self.run = CommandExecution(self.command, secret_names=PROFILES.secret_names(command))
        self.run.hide({SUPPLIED})
        self.serial = 0
        self.writes = 0
        self.seen: list[CommandState] = []
        self.states: list[CommandState] = [CommandState.QUEUED]
        self.record = to_hash(self.run.stored())

    def take(self, step: Step) -> Step:
        for transition in step.transitions:
            self.record = to_hash(transition.fields)
            for text in (json.dumps(dict(transition.fields)), repr(self.record), transition.reason or ""):
                assert self.secret not in text and SUPPLIED not in text
            if transition.announce:
                self.states.append(transition.state)
        return step

    def fill(self, text: str | None) -> str | None:
        """What a lock might say, with the secrets echoed."""
        return None if text is None else text.format(secret=self.secret, supplied=SUPPLIED)

    @property
    def physical(self) -> bool:
        return JT709.commands[self.command.name].choose(self.command.params).physical

    @rule(seconds=st.sampled_from([0.0, 1.0, 29.0, 31.0, 200.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = self.run.next_deadline
        step = self.take(self.run.deadline(self.now))
        assert (due is not None and due <= self.now) or step == Step()

    @rule()
    def write(self) -> None:
        self.serial += 1
        checked = PROFILES.validate(self.command, JT709)
        if not self.run.ended and not self.run.attempts:
            self.run.prepare(checked, self.now, {"static_password": SUPPLIED})
        before = self.run.state
        try:
            step = self.take(self.run.writing(self.now, self.serial))
        except LifecycleError:
            return
        assert before not in ENDED
        if step.action is Action.WRITE:
            self.writes += 1
            assert self.record["writing_at"], "the record goes before the bytes"

    @rule()
    def written(self) -> None:
        self.take(self.run.written(self.now))

    @rule(nothing=st.booleans(), reason=TEXTS)
    def write_failed(self, nothing: bool, reason: str) -> None:
        self.take(self.run.write_failed(self.now, self.fill(reason) or "", nothing))

    @rule(answer=ANSWERS)
    def answered(self, answer: Answer) -> None:
        echo = attrs.evolve(
            answer,
            reason=self.fill(answer.reason),
            arguments=tuple(self.fill(text) or "" for text in answer.arguments),
            data=answer.data and {key: self.fill(text) for key, text in answer.data.items()},
        )
        self.take(self.run.reply(echo, self.now))

    @rule(
        kind=st.sampled_from(ObservationKind),
        method=st.sampled_from(["password", "automatic", "card", None]),
        state=st.sampled_from(["locked", "unlocked"]),
        offset=st.none() | st.sampled_from([-1000.0, 0.0]),
    )
    def observed(self, kind: ObservationKind, method: str | None, state: str, offset: float | None) -> None:
        time = None if offset is None else self.now + offset
        before = "locked" if state == "unlocked" else "unlocked"
        self.take(self.run.observe(Observation(kind, state, method, state, before, time), self.now))

    @rule()
    def connection_lost(self) -> None:
        self.take(self.run.connection_lost(self.now))

    @rule()
    def cancel(self) -> None:
        in_flight = self.run.in_flight
        step = self.take(self.run.cancel(self.now))
        assert not (in_flight and step.transitions)

    @rule()
    def waiting(self) -> None:
        try:
            self.take(self.run.waiting(self.now))
        except LifecycleError:
            assert self.run.attempts or self.run.ended

    @rule(state=st.sampled_from(CommandState))
    def settle(self, state: CommandState) -> None:
        with contextlib.suppress(LifecycleError):
            self.take(self.run.settle(self.now, state, f"because {self.secret}"))

    @rule(with_command=st.booleans())
    def crash(self, with_command: bool) -> None:
        """Another gateway finds the record; for what has ended, perhaps without the command itself."""
        command = self.command if with_command or not self.run.ended else None
        spec = JT709.commands[self.command.name].choose(self.command.params) if self.run.spec else None
        stored = from_queue_entry(to_queue_entry(self.command)) if command is not None else None
        names = PROFILES.secret_names(self.command.name)
        self.run = CommandExecution.restore(self.record, spec, command=stored, secret_names=names)
        self.run.hide({SUPPLIED})
        perhaps_out = self.run.in_flight and self.physical
        self.take(self.run.recovered(self.now))
        assert not perhaps_out or self.run.state is CommandState.UNCERTAIN

    @invariant()
    def never_opens_twice(self) -> None:
        if hasattr(self, "run"):
            assert self.writes <= (1 if self.physical else 3)

    @invariant()
    def one_end(self) -> None:
        if not hasattr(self, "run"):
            return
        ends = [state for state in self.states if state in ENDED]
        assert len(ends) <= 1 or (len(ends) == 2 and ends[0] in OPEN and ends[1] is CommandState.CONFIRMED), (
            ends
        )
        if ends:
            assert self.run.state is ends[-1]
            assert self.run.next_deadline is None
        else:
            assert self.run.next_deadline is not None
        if self.run.state in (CommandState.CONFIRMED, *OPEN):
            assert self.physical and self.writes == 1
        if self.run.state is CommandState.TIMED_OUT:
            assert not self.physical

    @invariant()
    def no_secret_shows(self) -> None:
        if hasattr(self, "run"):
            text = json.dumps(self.run.public()) + json.dumps(self.run.stored()) + repr(self.run)
            assert self.secret not in text and SUPPLIED not in text


CommandMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=25, deadline=None)
CommandTests = CommandMachine.TestCase
