"""Profiles: overriding shipped ones, choosing one for a lock, and sentences of another dialect."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import PnnSentence, Profile, ProfileError, ProfileRegistry
from jt709c_gateway.commands.replies import ReplyKind
from tests.support.lifecycle import DEVICE, HEAD, WithDirectory


class OverrideTests(WithDirectory):
    def test_one_word(self) -> None:
        """An operator who has read the manual changes one thing of one command."""
        profiles = self.load(
            'name = "jt709"\nextends = "jt709"\ndialect = "jt709"\nsource = "manual"\n'
            '[commands.unlock]\nassumed = false\nsource = "manual, page 12"\n'
            '[commands.unlock.params.password]\ntype = "text"\n'
            'length = 8\nsecret = true\nfrom = "static_password"\n'
        )
        profile = profiles.profiles["jt709"]
        spec = profile.commands["unlock"].choose({})
        self.assertEqual((spec.assumed, spec.physical, spec.source), (False, True, "manual, page 12"))
        self.assertEqual(spec.params["password"].longest, 8)
        self.assertEqual(profile.commands["seal"].choose({}).source, "[ASM] no public document")
        self.assertIs(profiles.pick(DEVICE, "jt709"), profile)

    def test_provenance(self) -> None:
        """Each form says where it comes from; `assumed`, as older profiles have it, says the same."""
        for line, before, expected in (
            ("", "seal", "assumed"),
            ("assumed = true", "restart", "assumed"),
            ("assumed = false", "seal", "documented"),
            ("assumed = false", "restart", "documented"),
            ('provenance = "documented"', "seal", "documented"),
            ('provenance = "standard"', "seal", "standard"),
            ("", "restart", "standard"),
        ):
            text = f'{HEAD}extends = "jt709"\n[commands.{before}]\ndescription = "x"\n{line}\n'
            spec = self.load(text).profiles["mine"].commands[before].choose({})
            self.assertEqual((spec.provenance, spec.assumed), (expected, expected == "assumed"), line)
        old = f'{HEAD}extends = "grand"\n[commands.seal]\nprovenance = "standard"\n'
        grand = old.replace('"mine"', '"grand"').replace('extends = "grand"', 'extends = "jt709"')
        grand = grand.replace('provenance = "standard"', "assumed = true") + '[match]\ndevices = ["1"]\n'
        self.assertEqual(
            self.load(old, grand).profiles["mine"].commands["seal"].choose({}).provenance, "standard"
        )

    def test_provenance_of_a_variant(self) -> None:
        """A variant has its command's, unless it says another by either key."""
        for line, expected in (
            ("", "standard"),
            ("assumed = true", "assumed"),
            ("assumed = false", "documented"),
            ('provenance = "documented"', "documented"),
        ):
            text = (
                f'{HEAD}[commands.x]\nprovenance = "standard"\ntemplate = {{ sentence = "X,1" }}\n'
                '[commands.x.params.a]\ntype = "text"\n'
                f'[[commands.x.variants]]\ngiven = ["a"]\n{line}\ntemplate = {{ sentence = "X,{{a}}" }}\n'
            )
            definition = self.load(text.replace('"X,{a}"', '"X,1,{a}"')).profiles["mine"].commands["x"]
            self.assertEqual(definition.choose({"a": "b"}).provenance, expected, line)
            self.assertEqual(definition.choose({}).provenance, "standard")

    def test_another_template(self) -> None:
        """A whole new form, with the shipped variants dropped; another command switched off."""
        profiles = self.load(
            f'{HEAD}extends = "jt709"\n[match]\nprefixes = ["7943"]\n'
            '[commands.unlock]\ntemplate = { pnn = "P43,{password}" }\nvariants = []\n'
            'reply = { result = 0, accepted = ["1"], wrong_password = ["0"] }\n'
            "[commands.unlock.params.method]\ndisabled = true\n"
            "[commands.seal]\ndisabled = true\n"
        )
        commands = profiles.profiles["mine"].commands
        unlock = commands["unlock"].choose({})
        self.assertEqual((unlock.reply.word, unlock.reply.group, unlock.reply.number), ("P43", "", None))
        self.assertEqual(set(unlock.params), {"password"})
        self.assertNotIn("seal", commands)

    def test_in_place_of_the_shipped_one(self) -> None:
        """The same name without `extends` replaces all of it."""
        profiles = self.load(
            'name = "jt709"\ndialect = "jt709"\nsource = "x"\n'
            '[commands.seal]\ntemplate = { sentence = "X,1" }\n'
        )
        self.assertEqual(set(profiles.profiles["jt709"].commands), {"seal"})

    def test_general_profile_of_the_operator(self) -> None:
        """One without a match table goes before the shipped one."""
        profiles = self.load(HEAD + '[commands.seal]\ntemplate = { sentence = "X,1" }\n')
        picked = profiles.pick(DEVICE, "jt709")
        assert picked is not None
        self.assertEqual(picked.name, "mine")

    def test_chains(self) -> None:
        """A profile may build on another of the operator's, whose locks it does not take over."""
        profiles = self.load(
            HEAD
            + 'extends = "jt709"\n[match]\nprefixes = ["7943"]\n[commands.seal]\ndescription = "first"\n',
            'name = "second"\ndialect = "jt709"\nextends = "mine"\n[match]\ndevices = ["1"]\n'
            '[commands.unlock]\ndescription = "second"\n',
        )
        second = profiles.profiles["second"]
        self.assertEqual((second.source, second.prefixes, second.devices), ("a test", (), {"1"}))
        self.assertEqual(second.commands["seal"].choose({}).description, "first")
        self.assertEqual(second.commands["unlock"].choose({}).description, "second")

    def test_bad_chains(self) -> None:
        """Building on nothing, or in a circle, is refused."""
        self.assertIn("extends: is 'nobody'; expected", self.refused(HEAD + 'extends = "nobody"\n'))
        self.assertIn("extends: is 'mine'", self.refused(HEAD + 'extends = "mine"\n'))
        circle = [
            f'name = "{name}"\ndialect = "jt709"\nsource = "x"\nextends = "{other}"\n'
            for name, other in (("a", "b"), ("b", "a"))
        ]
        self.assertIn("extends: is ", self.refused(*circle))


class PickTests(SynchronousTestCase):
    def profile(self, name: str, dialect: str = "jt709", **match: Any) -> Profile:
        return Profile(name, dialect, "", {}, **match)

    def picked(self, profiles: ProfileRegistry, *arguments: str | None) -> str | None:
        profile = profiles.pick(*arguments)  # type: ignore[arg-type]
        return None if profile is None else profile.name

    def test_order_of_choice(self) -> None:
        """Device, longest prefix, firmware, dialect."""
        profiles = ProfileRegistry(
            [
                self.profile("general"),
                self.profile("device", devices=frozenset({"7943"})),
                self.profile("short", prefixes=("79",)),
                self.profile("long", prefixes=("794",)),
                self.profile("firm", firmware=("JT709C_2*",)),
                self.profile("other", dialect="jt701", prefixes=("80",)),
            ]
        )
        for device, dialect, firmware, name in [
            ("7943", "jt709", "JT709C_2.1", "device"),
            ("7943", "jt701", None, "device"),
            ("7944", "jt709", "JT709C_2.1", "long"),
            ("7914", "jt709", None, "short"),
            ("7914", None, None, "short"),
            ("1", "jt709", "JT709C_2.1", "firm"),
            ("1", "jt709", "JT709C_1.9", "general"),
            ("1", "jt709", None, "general"),
            ("80", "jt709", None, "general"),
            ("80", "jt701", None, "other"),
            ("1", None, "JT709C_2.1", None),
            ("1", "jt701", None, None),
        ]:
            self.assertEqual(
                self.picked(profiles, device, dialect, firmware), name, (device, dialect, firmware)
            )

    def test_rivals(self) -> None:
        """Two of the operator's profiles for the same locks are a mistake; a shipped one steps back."""
        for match in ({"devices": frozenset({"1"})}, {"prefixes": ("1",)}, {}):
            mine, yours = self.profile("mine", **match), self.profile("yours", **match)
            self.assertRaises(ProfileError, ProfileRegistry, [mine, yours])
            shipped = self.profile("shipped", shipped=True, **match)
            for command in ([mine, shipped], [shipped, mine]):
                self.assertEqual(self.picked(ProfileRegistry(command), "1", "jt709"), "mine")

    def test_firmware_of_the_operator_first(self) -> None:
        """Of two patterns that fit, the operator's counts."""
        shipped = self.profile("shipped", firmware=("*",), shipped=True)
        mine = self.profile("mine", firmware=("JT*",))
        self.assertEqual(self.picked(ProfileRegistry([shipped, mine]), "1", "jt709", "JT1"), "mine")


class Jt701Tests(WithDirectory):
    """Sentences of the other dialect fit the same engine (docs/protocol.rst, 4)."""

    TEXT = (
        'name = "jt701"\ndialect = "jt701"\nsource = "docs/protocol.rst, 4"\n'
        '[commands.unlock]\nphysical = true\ntemplate = { pnn = "P43,{password}" }\n'
        'reply = { result = 0, accepted = ["1"], wrong_password = ["0"] }\n'
        '[commands.unlock.params.password]\ntype = "text"\nlength = 6\nsecret = true\nrequired = true\n'
        '[commands.cards_add]\ntemplate = { pnn = "P41,1,1,{cards.count},{cards}" }\n'
        '[commands.cards_add.params.cards]\ntype = "list"\nrequired = true\nlength = [1, 20]\n'
        'items = { type = "text", pattern = "[0-9]{10}" }\n'
        '[commands.set_tracking]\ntemplate = { pnn = "P54,1,{on}" }\n'
        '[commands.set_tracking.params.on]\ntype = "boolean"\nrequired = true\n'
    )  # fmt: skip

    def test_rendering(self) -> None:
        profiles = self.load(self.TEXT)
        profile = profiles.pick("8000620011", "jt701")
        assert profile is not None
        for command, params, text in [
            ("unlock", {"password": "888888"}, "P43,888888"),
            ("cards_add", {"cards": ["0006437449", "0008627839"]}, "P41,1,1,2,0006437449,0008627839"),
            ("set_tracking", {"on": True}, "P54,1,1"),
        ]:
            checked = profiles.validate(Command("i", "8000620011", command, params), profile)
            self.assertEqual(checked.render(0), PnnSentence(text))
            self.assertEqual((checked.spec.reply.kind, checked.spec.reply.word), (ReplyKind.PNN, text[:3]))

    def test_loosely_takes_either(self) -> None:
        """Two dialects differ; one that takes the command is enough while the lock is unknown."""
        profiles = self.load(self.TEXT)
        profiles.validate_loosely(Command("i", "1", "unlock", {"password": "888888"}))
        profiles.validate_loosely(Command("i", "1", "unlock", {"method": "dynamic"}))
        self.assertRaises(
            InvalidCommand, profiles.validate_loosely, Command("i", "1", "unlock", {"method": "x"})
        )
