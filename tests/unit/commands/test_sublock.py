"""Commands for sub-locks, without a gateway: their evidence, how long it is awaited, how they are
addressed."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands import sublocks
from jt709c_gateway.commands.evidence import Observation, ObservationKind, confirms
from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command, CommandState, InvalidCommand, parse_command
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.serialization import to_hash
from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from tests.support.masters import OPEN, sublock_report

MASTER = "8054201973"
SUBLOCK = "E03B60000A"
OTHER = "79001A0001"
NOW = 1_600_000_000.0
JT701 = load_profiles().profiles["jt701"]
SPEC = JT701.commands["sublock_unlock"].choose({})


class SubLockTests(SynchronousTestCase):
    """A command for a sub-lock: whose evidence counts, and how long it is awaited."""

    def sent(self, **params: object) -> CommandExecution:
        """A command that the master has said yes to, a second after it was written."""
        command = Command("i", MASTER, "sublock_unlock", {"id": SUBLOCK, **params}, created_at=NOW)
        run = CommandExecution(command, SPEC)
        run.writing(NOW, 7)
        run.written(NOW)
        run.reply(Answer(True), NOW + 1)
        return run

    @staticmethod
    def seen(peripheral: str | None = SUBLOCK, method: str = "lora", at: float = NOW + 30) -> Observation:
        """An unlocking of this sub-lock."""
        return Observation(
            ObservationKind.LOCK, action="unlocked", method=method, time=at, peripheral=peripheral
        )

    def test_only_what_it_did_itself_proves_it(self) -> None:
        """Not what another sub-lock did, or the master, or a hand with a phone."""
        for observation, proves in [
            (self.seen(), True),
            (self.seen("79001A0001"), False),
            (self.seen(None), False),
            (self.seen(method="bluetooth"), False),
            (self.seen(at=NOW - 61), False),
        ]:
            run = self.sent()
            run.observe(observation, NOW + 31)
            self.assertEqual(run.state is CommandState.CONFIRMED, proves, observation)

    def test_what_its_report_says_besides(self) -> None:
        """Bit 3 of its event proves it, whatever other bits are set; and no other bit does."""
        for event, proves in (
            (1 << 3, True), (1 << 3 | 1 << 5, True), (1 << 3 | 1 << 6 | 1 << 7, True),
            (1 << 3 | 1 << 15, True), (1 << 3 | 1 << 0, True), (1 << 3 | 1 << 1, True),
            (1 << 3 | 1 << 2 | 1 << 4 | 1 << 9, True),
            (1 << 1, False), (1 << 9, False), (1 << 0, False), (1 << 2, False),
            (1 << 4 | 1 << 5 | 1 << 8, False),
        ):  # fmt: skip
            run = self.sent()
            (frame,) = Framer().feed(sublock_report(MASTER, SUBLOCK, event, OPEN, at=NOW + 30))
            message = Decoder().decode(frame, 0.0)
            assert isinstance(message, Message)
            steps = matching.match_message(message, [run], None, NOW + 31, lambda *_: None, LockClock())
            self.assertEqual(run.state is CommandState.CONFIRMED, proves, event)
            named = [data.method for _, data in message.events if getattr(data, "command_id", None)]
            self.assertEqual((bool(steps), named), (proves, ["lora"] if proves else []))

    def test_the_master_itself_is_proved_by_the_master_only(self) -> None:
        """The other way round: no sub-lock confirms a command for the master's own lock."""
        rule = JT701.commands["unlock"].choose({}).evidence
        assert rule is not None
        for peripheral, proves in [(None, True), (SUBLOCK, False)]:
            self.assertEqual(confirms(rule, self.seen(peripheral, "password"), NOW, NOW + 31), proves)

    def test_the_time_for_evidence_begins_when_the_master_gives_up(self) -> None:
        """The minutes in the command, 5 where it has none, come before the gateway's own timeout."""
        for params, minutes in [({}, 5), ({"minutes": 2}, 2)]:
            run = self.sent(**params)
            self.assertEqual(run.next_deadline, NOW + 1 + minutes * 60 + 120)
            step = run.deadline(NOW + 1 + minutes * 60 + 120)
            self.assertEqual(step.transitions[-1].state, CommandState.UNCONFIRMED)
            self.assertIn(f"no evidence within {minutes * 60 + 120} s", str(run.reason))

    def test_a_record_holds_what_is_needed_to_match(self) -> None:
        """Taken up from its hash alone, the command is confirmed by its own sub-lock and no other."""
        for peripheral, proves in [(SUBLOCK, True), ("79001A0001", False)]:
            lost = self.sent(minutes=1)
            restored = CommandExecution.restore(to_hash(lost.stored()), SPEC)
            self.assertEqual((restored.peripheral, restored.next_deadline), (SUBLOCK, NOW + 181))
            restored.observe(self.seen(peripheral), NOW + 31)
            self.assertEqual(restored.state is CommandState.CONFIRMED, proves)


class AddressTests(SynchronousTestCase):
    """From a command for a sub-lock to the one for its master."""

    def through(self, command: str, **params: object) -> Command:
        """The command for the master."""
        command = Command("i", SUBLOCK, command, params, reply_to="r")
        return sublocks.redirect_to_master(command, MASTER, sublocks.parameter(JT701))

    def test_small_letters(self) -> None:
        """A sub-lock's id is the same in small letters; with another length it is no device at all."""
        raw = b'{"device": "%s", "command": "unlock"}'
        self.assertEqual(parse_command(raw % b"e03b60000a", NOW).device, SUBLOCK)
        for wrong in (b"e03b60000", b"e03b60000a0", b"g03b60000a"):
            error = self.assertRaises(InvalidCommand, parse_command, raw % wrong, NOW)
            self.assertIn("a sub-lock's id, ten hex digits", str(error))

    def test_an_unlock_is_one_through_the_master(self) -> None:
        """By either name; the parameter may say again what the device says."""
        for command, params in [
            ("unlock", {}),
            ("sublock_unlock", {}),
            ("sublock_unlock", {"id": SUBLOCK}),
        ]:
            command = self.through(command, **params, minutes=2)
            self.assertEqual((command.device, command.name), (MASTER, "sublock_unlock"))
            self.assertEqual(command.params, {"id": SUBLOCK, "minutes": 2})

    def test_a_parameter_that_contradicts_the_device(self) -> None:
        """It is not for the gateway to choose between two locks."""
        error = self.assertRaises(InvalidCommand, self.through, "sublock_unlock", id=OTHER)
        self.assertEqual(error.field, "params.id")
        self.assertIn("is text of 10 characters", str(error))
        self.assertNotIn(OTHER, str(error))
        self.assertEqual((error.device, error.command_id, error.reply_to), (MASTER, "i", "r"))

    def test_other_commands(self) -> None:
        """They are the master's, whose id the message tells."""
        for command in ("seal", "restart", "sublock_list", "clear_lockout"):
            said = str(self.assertRaises(InvalidCommand, self.through, command))
            self.assertIn(f"{command} can't be given to {SUBLOCK}, a sub-lock of master {MASTER}", said)
            self.assertIn("expected unlock or sublock_unlock, or the master as device", said)

    def test_a_sensor_opens_nothing(self) -> None:
        """A JT126 can't be unlocked; a valve lock can, and so can what no document names."""
        command = Command("i", MASTER, "sublock_unlock", {"id": SUBLOCK})
        error = self.assertRaises(InvalidCommand, sublocks.check_type, command, SUBLOCK, "jt126")
        self.assertIn(f"{SUBLOCK} is a JT126 sensor of master {MASTER}", str(error))
        for kind in ("jt709", "jt802", "7", None):
            sublocks.check_type(command, SUBLOCK, kind)
