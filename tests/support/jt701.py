"""Support for the tests of the jt701 profile."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.profiles import CommandSpec, load_profiles
from jt709c_gateway.commands.replies import Answer, match
from jt709c_gateway.gateway.commands import encoder, matching
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message

DEVICE = "8000620011"
SUPPLIED = {"static_password": "888888", "dynamic_password": "123456"}
NOW = 1_600_000_000.0
NODES = [[22.560541, 114.01038333], [-22.5, -57.602956]]


class Unit:
    """The part of a session that framing needs."""

    identity_wire = None
    sentence_version = None

    def __init__(self, device: str = DEVICE) -> None:
        self.device = device

    def dialect_or_guess(self, known: str | None) -> str:
        return "jt701"


def heard(said: str) -> Message:
    """Return a sentence from the lock as the gateway decodes it."""
    (frame,) = Framer().feed(f"({DEVICE},{said})".encode())
    message = Decoder().decode(frame, 0.0)
    assert isinstance(message, Message)
    return message


class Jt701Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.profiles = load_profiles(allow_raw=True)
        profile = self.profiles.pick(DEVICE, "jt701")
        assert profile is not None
        self.profile = profile

    def wire(self, command: str, device: str = DEVICE, **params: Any) -> str:
        command = Command("i", DEVICE, command, params)
        self.profiles.validate_loosely(command)
        rendered = self.profiles.validate(command, self.profile).render(NOW, SUPPLIED)
        return encoder.frame(rendered, Unit(device), 7)[0].decode("ascii")  # type: ignore[arg-type]

    def spec(self, command: str, **params: Any) -> CommandSpec:
        return self.profile.commands[command].choose(params)

    def answer(self, said: str, command: str, **params: Any) -> Answer | None:
        """Return the meaning of a sentence for a command written under serial 7."""
        found = matching.as_reply(heard(said))
        return None if found is None else match(self.spec(command, **params).reply, 7, found[0])
