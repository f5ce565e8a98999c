"""Support for tests of the life cycle of commands."""

import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.evidence import Observation, ObservationKind
from jt709c_gateway.commands.lifecycle import Action, CommandExecution, Limits, Step
from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.profiles import ProfileError, ProfileRegistry, load_profiles
from jt709c_gateway.commands.replies import Answer

DEVICE = "794308010679"
HEAD = 'name = "mine"\ndialect = "jt709"\nsource = "a test"\n'

PROFILES = load_profiles(allow_raw=True)
JT709 = PROFILES.profiles["jt709"]
T = 1_700_000_000.0
YES = Answer(True, arguments=("1",))
WRONG = Answer(False, "wrong password", True, ("0",))
UNLOCKED = Observation(ObservationKind.LOCK, action="unlocked", method="password", time=T + 5)


def command(name: str = "unlock", **fields: Any) -> Command:
    params = {"unlock": {"password": "778899"}, "query": {"what": "firmware"}}.get(name, {})
    given = {"id": "i", "device": DEVICE, "name": name, "params": params, "created_at": T}
    return Command(**{**given, **fields})


def run(name: str = "unlock", limits: Limits | None = None, **fields: Any) -> CommandExecution:
    one = command(name, **fields)
    return CommandExecution(one, JT709.commands[name].choose(one.params), limits or Limits())


def sent(name: str = "unlock", limits: Limits | None = None, **fields: Any) -> CommandExecution:
    one = run(name, limits, **fields)
    one.writing(T, 7)
    one.written(T + 1)
    return one


class LifecycleCase(SynchronousTestCase):
    def expect(self, step: Step, *states: str, action: Action = Action.NONE) -> None:
        """Check that the step announced these states, in sequence, and asks for this action."""
        announced = [str(one.state) for one in step.transitions if one.announce]
        self.assertEqual((announced, step.action), (list(states), action))


class WithDirectory(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name)

    def load(self, *texts: str, allow_raw: bool = False) -> ProfileRegistry:
        for number, text in enumerate(texts):
            (self.directory / f"{number}.toml").write_text(text, encoding="utf-8")
        return load_profiles(self.directory, allow_raw=allow_raw)

    def refused(self, *texts: str) -> str:
        return str(self.assertRaises(ProfileError, self.load, *texts))
