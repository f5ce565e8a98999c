"""The check of a command against the device that it is for, as intake and the web API make it."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.check import CheckedForDevice, check_command
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.redis.command_store_types import Known

DEVICE = "794308010679"
MASTER = "8054201973"
SUBLOCK = "E03B60000A"
PROFILES = load_profiles()
SENSOR = "jt126"


class CheckTests(SynchronousTestCase):
    """Each step, as far as the device is known."""

    def check(
        self,
        known: Known,
        name: str,
        device: str | None = None,
        types: dict[str, str] | None = None,
        **params: object,
    ) -> CheckedForDevice:
        """Check a command for `device`, by default by the known device's own id."""
        asked: list[str] = []

        async def peripheral_type(peripheral: str) -> str | None:
            asked.append(peripheral)
            return (types or {}).get(peripheral)

        command = Command("i", device or known.device, name, params, reply_to="r")
        running = check_command(command, known, PROFILES, peripheral_type)
        try:
            running.send(None)
        except StopIteration as end:
            checked: CheckedForDevice = end.value
            self.asked = asked
            return checked
        raise AssertionError("the check waits for something")

    def refused(self, known: Known, name: str, device: str | None = None, **more: object) -> InvalidCommand:
        """Why a command is invalid; the error names the command."""
        error = self.assertRaises(InvalidCommand, self.check, known, name, device, **more)
        self.assertEqual((error.command_id, error.reply_to), ("i", "r"))
        return error

    def test_a_known_device(self) -> None:
        """The command gets the canonical id and its form in the device's profile."""
        known = Known(DEVICE, "jt709", None, alias=DEVICE)
        checked = self.check(known, "locate", "490154203237518")
        assert checked.spec is not None
        self.assertEqual((checked.command.device, checked.spec.profile), (DEVICE, "jt709"))
        self.assertEqual(self.asked, [])

    def test_parameters_of_the_profile(self) -> None:
        """A parameter that the profile doesn't have, and a command."""
        known = Known(DEVICE, "jt709", None)
        self.assertEqual(self.refused(known, "unlock", pass_="483920").field, "params")
        self.assertIn("is not in profile jt709", str(self.refused(known, "sublock_list")))

    def test_an_unknown_device(self) -> None:
        """Without a profile a command must fit any; its form is not known."""
        known = Known(DEVICE, None, None)
        self.assertIsNone(self.check(known, "sublock_list").spec)
        self.assertEqual(self.refused(known, "unlok").field, "command")

    def test_an_unknown_sublock(self) -> None:
        """Nobody knows which master a sub-lock has that has not reported."""
        for name in ("unlock", "cancel"):
            error = self.refused(Known(SUBLOCK, None, None), name, **{"id": "x"} if name == "cancel" else {})
            self.assertEqual(error.field, "device")
            self.assertIn("no sub-lock of this id has reported yet", str(error))

    def test_a_sublock(self) -> None:
        """An unlock of a sub-lock is one of its master, by the parameter that the master's profile names."""
        known = Known(MASTER, "jt701", None, None, SUBLOCK, "jt709")
        checked = self.check(known, "unlock", SUBLOCK)
        self.assertEqual((checked.command.device, checked.command.name), (MASTER, "sublock_unlock"))
        self.assertEqual((checked.command.params, self.asked), ({"id": SUBLOCK}, []))
        error = self.refused(known, "restart", SUBLOCK)
        self.assertIn(f"restart can't be given to {SUBLOCK}, a sub-lock of master {MASTER}", str(error))

    def test_a_sensor(self) -> None:
        """It opens nothing, whether it is addressed itself or by its master."""
        addressed = Known(MASTER, "jt701", None, None, SUBLOCK, SENSOR)
        by_master = Known(MASTER, "jt701", None)
        for error in (
            self.refused(addressed, "unlock", SUBLOCK),
            self.refused(by_master, "sublock_unlock", types={SUBLOCK: SENSOR}, id=SUBLOCK),
        ):
            self.assertIn(f"{SUBLOCK} is a JT126 sensor of master {MASTER}", str(error))
        self.assertIsNotNone(self.check(by_master, "sublock_unlock", id=SUBLOCK).spec)
        self.assertEqual(self.asked, [SUBLOCK])

    def test_commands_of_the_gateway(self) -> None:
        """`cancel` may name a sub-lock, since it is about a command; `clear_lockout` is the master's."""
        sublock = Known(MASTER, "jt701", None, None, SUBLOCK, "jt709")
        self.assertIsNone(self.check(sublock, "cancel", SUBLOCK, id="x").spec)
        self.assertIn("clear_lockout can't be given to", str(self.refused(sublock, "clear_lockout", SUBLOCK)))
        self.assertEqual(self.check(Known(DEVICE, "jt709", None), "clear_lockout").command.device, DEVICE)
        self.assertEqual(self.refused(Known(DEVICE, "jt709", None), "cancel").field, "params.id")
