"""Parameters and templates: nothing that is accepted can leave its field."""

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.profiles import BinaryMessage, GroupedSentence, PnnSentence, RawBytes
from jt709c_gateway.commands.profiles.bodies import BodyError, build
from jt709c_gateway.commands.profiles.params import Param, ParamKind, fits_sentence
from jt709c_gateway.commands.profiles.templates import (
    BinaryTemplate,
    Line,
    Placeholder,
    RawTemplate,
    Template,
    TemplateError,
    parse_placeholder,
    parse_pnn,
    parse_sentence,
)

TEXT = Param("p", ParamKind.TEXT, longest=6)


class ParamTests(SynchronousTestCase):
    def good(self, param: Param, value: object, checked: object) -> None:
        self.assertEqual(param.check(value), checked)

    def bad(self, param: Param, *values: object) -> None:
        for value in values:
            error = self.assertRaises(InvalidCommand, param.check, value)
            self.assertTrue(error.field.startswith(f"params.{param.name}"), error.field)

    def test_text(self) -> None:
        """Text keeps to printable ASCII, to its length and to its pattern."""
        self.good(TEXT, "a 1~?", "a 1~?")
        self.bad(TEXT, "", "1234567", "a,b", "(a", "a)", "a\n", "ä", "\x7f", 888888, None, ["a"])
        digits = Param("p", ParamKind.TEXT, pattern=re.compile("[0-9]+"))
        self.good(digits, "12", "12")
        self.bad(digits, "12a")

    def test_free_text(self) -> None:
        """Text for a binary body may be anything printable."""
        param = Param("p", ParamKind.FREE_TEXT)
        self.good(param, "你好, (you)", "你好, (you)")
        self.bad(param, "a\nb", 1)

    def test_numbers(self) -> None:
        """Numbers keep to their range, and true is none."""
        integer = Param("p", ParamKind.INTEGER, minimum=5, maximum=600)
        self.good(integer, 600, 600)
        self.bad(integer, 4, 601, 5.0, True, "5", 10**400)
        number = Param("p", ParamKind.NUMBER, minimum=-90, maximum=90)
        self.good(number, 1, 1.0)
        self.bad(number, float("nan"), float("inf"), 91, "1", False)

    def test_others(self) -> None:
        """Booleans, choices and hex."""
        self.good(Param("p", ParamKind.BOOLEAN), False, False)
        self.bad(Param("p", ParamKind.BOOLEAN), 0, "no")
        choice = Param("p", ParamKind.CHOICE, choices={"on": "1"})
        self.good(choice, "on", "on")
        self.bad(choice, "1", 1, ["on"])
        binary = Param("p", ParamKind.HEX, longest=2)
        self.good(binary, "0aFf", "0AFF")
        self.bad(binary, "0", "0g", "", "0a0b0c", 10)

    def test_sentence(self) -> None:
        """One sentence, with its brackets and no others."""
        param = Param("p", ParamKind.SENTENCE)
        self.good(param, "(P43,888888)", "(P43,888888)")
        self.bad(param, "P43", "(P43)(P44)", "(P43\n)", "()", "((P43))", "(ü)")

    def test_numbers_beyond_the_bounds(self) -> None:
        """Those that are right, too."""
        param = Param("p", ParamKind.INTEGER, minimum=5, maximum=9, also=(0,))
        for value in (0, 5, 9):
            self.good(param, value, value)
        self.bad(param, 1, 4, 10, -1, False)
        self.assertEqual(param.expected(), "0 or an integer from 5 to 9")

    def test_places(self) -> None:
        """Pairs of latitude and longitude on the globe."""
        param = Param("p", ParamKind.PLACES, shortest=1, longest=2)
        self.good(param, [[90, -180], (0.5, 0)], [(90.0, -180.0), (0.5, 0.0)])
        self.bad(
            param, [], [[0, 0]] * 3, [[0]], [[0, 0, 0]], [[91, 0]], [[0, 180.1]], [["0", 0]], [[True, 0]]
        )
        self.bad(param, [[float("nan"), 0]], [[float("inf"), 0]], [0, 0], "0,0", {"0": 0}, None)
        for place, text in (
            ((22.555363, 113.422765), "11325.3659,2233.3218"),
            ((-25.269608, -57.602956), "-05736.1774,-2516.1765"),
            ((0.9999999, -0.0000001), "00000.0000,0100.0000"),
            ((90.0, 180.0), "18000.0000,9000.0000"),
        ):
            self.assertEqual(param.wire([place]), text)

    def test_lists(self) -> None:
        """Lists have a length, and each item is checked."""
        param = Param("p", ParamKind.LIST, longest=2, items=TEXT)
        self.good(param, ["a", "b"], ["a", "b"])
        self.bad(param, [], ["a", "b", "c"], "a", [1], ["a,b"])

    def test_parameters(self) -> None:
        """JT/T 808 parameters: a width for each integer, GBK text, hex."""
        param = Param("p", ParamKind.PARAMETERS, widths={"31": 2}, secret_items=frozenset({"12"}))
        checked = param.check(
            {"0001": 60, "0031": 7, "F010": {"u8": 1}, "0013": "网", "0000F011": {"hex": "0a"}, "0014": ""}
        )
        self.assertEqual(
            checked,
            (
                (1, b"\0\0\0\x3c"),
                (0x31, b"\0\x07"),
                (0xF010, b"\1"),
                (0x13, "网".encode("gbk")),
                (0xF011, b"\x0a"),
                (0x14, b""),
            ),
        )
        self.bad(
            param,
            {},
            [],
            {"1": 1},
            {"0x0001": 1},
            {"0001": 2**32},
            {"0001": -1},
            {"0031": 65536},
            {"0001": True},
            {"0001": 1.5},
            {"0001": {"u8": 256}},
            {"0001": {"u8": 1, "u16": 1}},
            {"0001": {"u64": 1}},
            {"0001": {"u8": "1"}},
            {"0001": {"hex": "f"}},
            {"0001": {}},
            {"0001": "x" * 256},
            {"0001": "a\n"},
            {"0001": "\U0001f600"},
            {"0001": 1, "00000001": 2},
        )

    def test_secrets_are_masked(self) -> None:
        """A complaint about a secret says what is right, not what came."""
        secret = Param("p", ParamKind.TEXT, longest=6, secret=True)
        self.assertNotIn("8888", str(self.assertRaises(InvalidCommand, secret.check, "8888,8888")))
        self.assertIn("is a number", str(self.assertRaises(InvalidCommand, secret.check, 88888888)))
        items = Param("p", ParamKind.PARAMETERS, secret_items=frozenset({"12"}))
        for value in ({"0012": "hush\n"}, {"0012": "hush", "x": 1}, {"0012": {"text": "hush", "u8": 1}}):
            self.assertNotIn("hush", str(self.assertRaises(InvalidCommand, items.check, value)))

    def test_wire(self) -> None:
        """What stands in a sentence for each kind."""
        for param, value, text in [
            (Param("p", ParamKind.BOOLEAN), True, "1"),
            (Param("p", ParamKind.BOOLEAN), False, "0"),
            (Param("p", ParamKind.NUMBER), 22.5, "22.5"),
            (Param("p", ParamKind.NUMBER), 3.0, "3"),
            (Param("p", ParamKind.NUMBER), 1e-7, "0"),
            (Param("p", ParamKind.CHOICE, choices={"on": "7"}), "on", "7"),
            (Param("p", ParamKind.LIST, items=TEXT), ["a", "b"], "a,b"),
            (Param("p", ParamKind.INTEGER), 7, "7"),
        ]:
            self.assertEqual(param.wire(value), text)

    def test_expected(self) -> None:
        """Each kind says in words what it takes."""
        for kind in ParamKind:
            self.assertTrue(Param("p", kind, items=TEXT, choices={"a": "a"}).expected())

    @given(st.text(max_size=12) | st.text(st.characters(max_codepoint=127), max_size=12))
    def test_text_stays_in_its_field(self, text: str) -> None:
        """Whatever text is accepted leaves commas and brackets of the sentence as they were."""
        template = parse_sentence("ELOCK,1,1,{p},x")
        try:
            value = Param("p", ParamKind.TEXT).check(text)
        except InvalidCommand:
            return
        rendered = template.render({"p": TEXT}, {"p": value}, 0)
        self.assertEqual(rendered, GroupedSentence("ELOCK", 1, ("1", text, "x")))


class TemplateTests(SynchronousTestCase):
    def render(self, template: Template, values: dict[str, Any], **params: Param) -> object:
        return template.render(params, values, 1_600_000_000.0)

    def test_grouped(self) -> None:
        """Group, number and parameters come apart."""
        self.assertEqual(self.render(parse_sentence("BASE,1"), {}), GroupedSentence("BASE", 1, ()))
        self.assertEqual(
            self.render(parse_sentence("A1,2,{p},"), {"p": "x"}, p=TEXT), GroupedSentence("A1", 2, ("x", ""))
        )

    def test_pnn(self) -> None:
        """A Pnn sentence, with a list and its length."""
        cards = Param("cards", ParamKind.LIST, items=TEXT)
        template = parse_pnn("P41,1,1,{cards.count},{cards}")
        self.assertEqual(
            self.render(template, {"cards": ["1", "2"]}, cards=cards), PnnSentence("P41,1,1,2,1,2")
        )
        self.assertEqual(self.render(parse_pnn("P13"), {}), PnnSentence("P13"))

    def test_several(self) -> None:
        """Several Pnn sentences in the order of writing; the last is answered. Places come in pages."""
        nodes = Param("nodes", ParamKind.PLACES)
        template = parse_pnn("P24,{p}", "P29,{p},{nodes.count},{nodes.pages}", "P31")
        self.assertEqual((template.word, template.names), ("P31", {"p", "nodes"}))
        for count, pages in ((1, (1,)), (10, (10,)), (11, (10, 1)), (30, (10, 10, 10))):
            rendered = self.render(template, {"p": "x", "nodes": [(1.5, -2.25)] * count}, p=TEXT, nodes=nodes)
            expected = [
                f"P29,x,{count},{number},{size}" + ",-00215.0000,0130.0000" * size
                for number, size in enumerate(pages, 1)
            ]
            self.assertEqual(rendered, PnnSentence("P31", ("P24,x", *expected)))
        last = self.render(parse_pnn("P29,{nodes.pages}"), {"nodes": [(0.0, 0.0)] * 11}, nodes=nodes)
        self.assertEqual(
            last, PnnSentence("P29,2,1,00000.0000,0000.0000", ("P29,1,10" + ",00000.0000,0000.0000" * 10,))
        )

    def test_now(self) -> None:
        """The time is UTC, in the order asked for."""
        self.assertEqual(
            self.render(parse_sentence("BASE,2,{now}"), {}), GroupedSentence("BASE", 2, ("20200913122640",))
        )
        self.assertEqual(
            self.render(parse_pnn("P22,{now:%d%m%y%H%M%S}"), {}), PnnSentence("P22,130920122640")
        )

    def test_binary(self) -> None:
        """Arguments are constants or parameters."""
        template = BinaryTemplate(0x8300, "text", {"flags": 4, "text": Placeholder("t")})
        self.assertEqual(template.names, {"t"})
        text = Param("t", ParamKind.FREE_TEXT)
        self.assertEqual(self.render(template, {"t": "hé"[:1]}, t=text), BinaryMessage(0x8300, b"\x04h"))
        for value in ("\U0001f512", "x" * 1023):
            error = self.assertRaises(InvalidCommand, self.render, template, {"t": value}, t=text)
            self.assertIn(error.field, ("params.t", "params"))

    def test_raw(self) -> None:
        """Hex and sentences as they are."""
        self.assertEqual(
            self.render(RawTemplate("h"), {"h": "7E7E"}, h=Param("h", ParamKind.HEX)), RawBytes(b"~~")
        )
        self.assertEqual(
            self.render(RawTemplate("s"), {"s": "(P13)"}, s=Param("s", ParamKind.SENTENCE)),
            RawBytes(b"(P13)"),
        )

    def test_last_check(self) -> None:
        """Even a value that nobody checked can't leave its field."""
        template = parse_pnn("P43,{p}")
        for value in ("1,2", "1)", "\n", "ü"):
            self.assertRaises(InvalidCommand, self.render, template, {"p": value}, p=TEXT)
        self.assertRaises(InvalidCommand, self.render, template, {"p": "x" * 1000}, p=TEXT)

    def test_bad_templates(self) -> None:
        """What can't be read is refused when the profile is loaded."""
        for text in ("", "BASE", "base,1", "BASE,x", "BASE,1,", "{p},1", "BASE,1,(", "BASE,1,{P}", "BASE,1,ü",
                     "BASE,1,{p:%d}", "BASE,1,{now.count}", "BASE,1,{now:%d,%m}", "BASE,1,{p"):  # fmt: skip
            self.assertRaises(TemplateError, parse_sentence, text)
        for text in ("", "P4", "P43,", "Q43", "P43)", "P43 ,1"):
            self.assertRaises(TemplateError, parse_pnn, text)

    def test_pieces(self) -> None:
        """A line knows the parameters it needs; now is none."""
        self.assertEqual(Line.parse("a{b}{now}{c.count}").names, {"b", "c"})
        self.assertIsNone(parse_placeholder("x{b}"))

    def test_reprs_hold_no_values(self) -> None:
        """Rendered commands may hold a password."""
        for rendered in (
            GroupedSentence("ELOCK", 1, ("888888",)),
            PnnSentence("P43,888888"),
            RawBytes(b"888888"),
            BinaryMessage(0x8300, b"888888"),
        ):
            self.assertNotIn("8888", repr(rendered))


class BodyTests(SynchronousTestCase):
    def test_layouts(self) -> None:
        """Bodies as JT/T 808-2013 lays them out."""
        for name, values, body in [
            ("parameters_query", {}, b""),
            ("location_query", {}, b""),
            ("attributes_query", {}, b""),
            ("parameters_query_some", {"ids": ["0001", "F010"]}, b"\x02\0\0\0\x01\0\0\xf0\x10"),
            ("parameters_set", {"parameters": ((1, b"ab"),)}, b"\x01\0\0\0\x01\x02ab"),
            ("control", {"word": 4}, b"\x04"),
            ("control", {"word": 2, "text": "1;x"}, b"\x021;x"),
            ("text", {"flags": 4, "text": "中"}, b"\x04\xd6\xd0"),
            ("raw", {"hex": "00FF"}, b"\0\xff"),
        ]:
            self.assertEqual(build(name, values), body)

    def test_too_long(self) -> None:
        """Ten bits hold the length."""
        self.assertEqual(len(build("raw", {"hex": "00" * 1023})), 1023)
        self.assertRaises(BodyError, build, "raw", {"hex": "00" * 1024})

    @given(st.text())
    def test_fits_sentence(self, text: str) -> None:
        """What fits encodes to ASCII and holds no separator."""
        if fits_sentence(text):
            self.assertFalse(set(text.encode("ascii")) & (set(b"(),\x7f") | set(range(32))))
