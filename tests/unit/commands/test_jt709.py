"""The shipped jt709 profile: what each command puts on the wire, and what it refuses."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.evidence import EvidenceRule
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import (
    BinaryMessage,
    GroupedSentence,
    ProfileRegistry,
    RawBytes,
    Rendered,
    load_profiles,
)
from jt709c_gateway.commands.profiles.templates import BinaryTemplate
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.commands.replies import ReplyKind
from tests.support.lifecycle import DEVICE

SUPPLIED = {"static_password": "888888", "dynamic_password": "123456"}


class ShippedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.profiles = load_profiles(allow_raw=True)
        self.profile = self.profiles.profiles["jt709"]

    def rendered(self, command: str, **params: Any) -> Rendered:
        command = Command("i", DEVICE, command, params)
        self.profiles.validate_loosely(command)
        return self.profiles.validate(command, self.profile).render(1_600_000_000.0, SUPPLIED)

    def refusal(self, command: str, **params: Any) -> str:
        return str(self.assertRaises(InvalidCommand, self.rendered, command, **params))

    def test_bytes_of_each_command(self) -> None:
        """What each command puts on the wire."""
        for command, params, expected in [
            ("unlock", {}, GroupedSentence("ELOCK", 1, ("1", "888888"))),
            ("unlock", {"password": "a#1b c"}, GroupedSentence("ELOCK", 1, ("1", "a#1b c"))),
            ("unlock", {"method": "static"}, GroupedSentence("ELOCK", 1, ("1", "888888"))),
            ("unlock", {"method": "dynamic"}, GroupedSentence("ELOCK", 6, ("1", "123456"))),
            ("seal", {}, GroupedSentence("ELOCK", 4, ("1",))),
            ("set_password", {"new": "abc123"}, GroupedSentence("ELOCK", 5, ("1", "abc123", "888888"))),
            ("query", {"what": "firmware"}, GroupedSentence("BASE", 1)),
            ("query", {"what": "parameters"}, BinaryMessage(0x8104, b"")),
            ("query", {"what": "attributes"}, BinaryMessage(0x8107, b"")),
            ("locate", {}, BinaryMessage(0x8201, b"")),
            ("sync_time", {}, GroupedSentence("BASE", 2, ("20200913122640",))),
            (
                "set_parameters",
                {"parameters": {"0031": 9}},
                BinaryMessage(0x8103, bytes.fromhex("0100000031020009")),
            ),
            ("get_parameters", {}, BinaryMessage(0x8104, b"")),
            ("get_parameters", {"ids": ["0001"]}, BinaryMessage(0x8106, bytes.fromhex("0100000001"))),
            ("text", {"text": "hi"}, BinaryMessage(0x8300, b"\x04hi")),
            ("restart", {}, BinaryMessage(0x8105, b"\x04")),
            ("factory_reset", {}, BinaryMessage(0x8105, b"\x05")),
            ("raw", {"hex": "7e7e"}, RawBytes(b"~~")),
            ("raw", {"sentence": "(P13)"}, RawBytes(b"(P13)")),
        ]:
            self.assertEqual(self.rendered(command, **params), expected, command)

    def test_every_command_is_tried_above(self) -> None:
        """The list above grows with the profile."""
        self.assertEqual(
            set(self.profile.commands),
            {"unlock", "seal", "set_password", "query", "locate", "sync_time"}
            | {"set_parameters", "get_parameters", "text", "restart", "factory_reset", "raw"},
        )

    def test_what_moves_the_lock(self) -> None:
        """Unlock, seal and raw are physical and written once; the ELOCK commands and sync_time are
        assumed."""
        specs = [
            form
            for one in self.profile.commands.values()
            for form in (one.base, *(variant.spec for variant in one.variants))
            if form is not None
        ]
        self.assertEqual({spec.name for spec in specs if spec.physical}, {"unlock", "seal", "raw"})
        self.assertEqual({spec.repeats for spec in specs if spec.physical}, {1})
        self.assertEqual(
            {spec.name for spec in specs if spec.assumed}, {"unlock", "seal", "set_password", "sync_time"}
        )
        for spec in specs:
            self.assertTrue(spec.description)
            self.assertEqual("[ASM]" in spec.source, spec.assumed, spec.name)
            is_standard = isinstance(spec.template, BinaryTemplate)
            self.assertEqual(spec.provenance is Provenance.STANDARD, is_standard, spec.name)

    def test_unlock_answers(self) -> None:
        """The variant shares the base's reply and evidence, and is answered by its own number."""
        for method, number in (("static", 1), ("dynamic", 6)):
            spec = self.profile.commands["unlock"].choose({"method": method})
            self.assertEqual(
                (spec.reply.kind, spec.reply.group, spec.reply.number), (ReplyKind.SENTENCE, "ELOCK", number)
            )
            self.assertTrue(spec.shows_password)
            self.assertEqual(
                spec.evidence,
                EvidenceRule(
                    frozenset({"unlocked"}), frozenset({"password", "dynamic_password"}), "unlocked"
                ),
            )

    def test_refusals(self) -> None:
        """Complaints name the parameter and what is right."""
        for command, params, text in [
            ("unlock", {"password": "88,888"}, "params.password: is ******; expected text of 6"),
            (
                "unlock",
                {"passwort": "888888"},
                "params: parameter 1 (a name of 8 characters, near password) has no meaning",
            ),
            (
                "unlock",
                {"method": "magic"},
                "params.method: is text of 5 characters; expected one of",
            ),
            ("unlock", {"method": "dynamic", "password": "abcdef"}, "matching [0-9]{6}"),
            ("set_password", {"old": "888888"}, "params.new: missing"),
            ("query", {}, "params.what: missing; expected one of "),
            ("raw", {}, "expected hex; or sentence"),
            ("raw", {"hex": "00", "sentence": "(P13)"}, "params.sentence: has no meaning here"),
            ("get_parameters", {"ids": ["1"]}, "params.ids[]: "),
            ("text", {"text": "\U0001f512"}, "params.text: holds a character that GBK has not"),
        ]:
            self.assertIn(text, self.refusal(command, **params))

    def test_refusal_names_the_command(self) -> None:
        """The outcome `invalid` can be reported to whoever waits for it."""
        command = Command("i", DEVICE, "unlock", {"x": 1}, reply_to="r")
        for check in (self.profiles.validate_loosely, lambda one: self.profiles.validate(one, self.profile)):
            error = self.assertRaises(InvalidCommand, check, command)
            self.assertEqual((error.command_id, error.reply_to), ("i", "r"))

    def test_nothing_supplied(self) -> None:
        """Without a password in the command or the configuration there is nothing to send."""
        checked = self.profiles.validate(Command("i", DEVICE, "unlock"), self.profile)
        error = self.assertRaises(InvalidCommand, checked.render, 0)
        self.assertIn("the gateway has no static password (--static-password-file)", str(error))
        self.assertEqual(error.command_id, "i")
        self.assertRaises(InvalidCommand, checked.render, 0, {"static_password": "a,b(c)"})

    def test_raw_is_off(self) -> None:
        """Raw commands need --allow-raw."""
        profiles = load_profiles()
        command = Command("i", DEVICE, "raw", {"hex": "00"})
        self.assertIn(
            "--allow-raw", str(self.assertRaises(InvalidCommand, profiles.validate, command, self.profile))
        )
        self.assertRaises(InvalidCommand, profiles.validate_loosely, command)

    def test_loosely(self) -> None:
        """Before the lock is known a name has to be known and some profile has to take the parameters."""
        for command, params in [
            ("unlock", {}),
            ("set_fence", {"id": 1, "name": "depot"}),
            ("cancel", {"id": "x"}),
            ("clear_lockout", {}),
        ]:
            self.profiles.validate_loosely(Command("i", DEVICE, command, params))
        for command, params in [
            ("dance", {}),
            ("set_fence", {"whatever": 1}),
            ("cancel", {}),
            ("cancel", {"id": 7}),
            ("clear_lockout", {"a": 1}),
        ]:
            command = Command("i", DEVICE, command, params)
            self.assertRaises(InvalidCommand, self.profiles.validate_loosely, command)

    def test_loosely_where_no_profile_knows_the_command(self) -> None:
        """A name of the catalogue that no profile has: anything may be its parameters."""
        ProfileRegistry([self.profile]).validate_loosely(Command("i", DEVICE, "set_fence", {"whatever": 1}))

    def test_unknown_for_this_lock(self) -> None:
        """A command of another dialect is refused with what there is."""
        self.assertIn(
            "cards_clear is not in profile jt709; expected one of factory_reset, ",
            self.refusal("cards_clear"),
        )

    def test_secret_names(self) -> None:
        """What to mask before the lock's profile is known; everything, where no profile knows the command."""
        self.assertEqual(self.profiles.secret_names("set_password"), {"new", "old"})
        self.assertEqual(self.profiles.secret_names("set_parameters"), {"parameters.12", "parameters.16"})
        self.assertEqual(self.profiles.secret_names("raw"), {"hex", "sentence"})
        self.assertEqual(self.profiles.secret_names("cancel"), frozenset())
        self.assertIsNone(ProfileRegistry([self.profile]).secret_names("set_fence"))

    def test_spec_of_a_stored_command(self) -> None:
        """A record with masked parameters still tells which form it was."""
        spec = self.profiles.spec_of("jt709", "unlock", {"method": "dynamic", "password": "******"})
        assert spec is not None
        self.assertEqual(spec.reply.number, 6)
        for profile, command in (("gone", "unlock"), ("jt709", "gone"), ("jt709", "query")):
            self.assertIsNone(self.profiles.spec_of(profile, command, {}))

    def test_reprs_hold_no_password(self) -> None:
        """Checked commands may be logged."""
        checked = self.profiles.validate(Command("i", DEVICE, "unlock", {"password": "778899"}), self.profile)
        self.assertNotIn("778899", repr(checked))
