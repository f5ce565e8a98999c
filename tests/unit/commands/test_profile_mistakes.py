"""Mistakes in profiles, and how they are told."""

import copy
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import ProfileError, load_profiles
from jt709c_gateway.commands.profiles.loader import read_profile
from tests.support.lifecycle import HEAD, WithDirectory


class MistakeCase(WithDirectory):
    """Each mistake is told in one line with file, table, what is wrong and what is right."""

    def command(self, body: str, name: str = "x") -> str:
        return self.refused(f"{HEAD}[match]\ndevices = ['1']\n[commands.{name}]\n{body}\n")


class FileMistakeTests(MistakeCase):
    """Files, and what stands at the head of one."""

    def test_files(self) -> None:
        self.assertIn(
            "expected a directory", str(self.assertRaises(ProfileError, load_profiles, self.directory / "no"))
        )
        (self.directory / "d.toml").mkdir()
        self.assertIn("expected a readable file", self.refused())
        (self.directory / "d.toml").rmdir()
        self.assertIn("expected TOML", self.refused("name = "))
        (self.directory / "0.toml").write_bytes(b'name = "\xff"')
        self.assertIn("not UTF-8", self.refused())

    def test_heads(self) -> None:
        for text, expected in [
            ("", "name: missing; expected text"),
            ("name = 7", "name: missing"),
            ('name = "a b"\ndialect = "jt709"\nsource = "x"', "name: is 'a b'; expected up to 64"),
            ('name = "a"', "dialect: missing"),
            ('name = "a"\ndialect = "jt808"', "dialect: is 'jt808'; expected one of jt709, jt705, jt701"),
            ('name = "a"\ndialect = "jt709"', "source: missing"),
            (HEAD + "commands = 7", "commands: is 7; expected a table"),
            (HEAD + "command = 7", "command: unknown key; expected one of commands, dialect, extends, match"),
            (HEAD + '[match]\ndevices = "1"', 'match.devices: is "1"; expected a list'),
            (HEAD + "[match]\ndevices = [1]", "match.devices: is [1]; expected a list of text"),
            (HEAD + '[match]\ndevice = ["1"]', "match.device: unknown key"),
        ]:
            message = self.refused(text)
            self.assertIn("0.toml: ", message)
            self.assertIn(expected, message)
            self.assertNotIn("\n", message)
        self.assertIn("is in", self.refused(HEAD, HEAD))

    def test_names(self) -> None:
        body = 'template = { sentence = "X,1" }'
        self.assertIn("commands.lock: is an alias; expected seal", self.command(body, "lock"))
        self.assertIn("commands.cancel: expected a name", self.command(body, "cancel"))
        self.assertIn("commands.Up: expected a name", self.command(body, "Up"))


class CommandMistakeTests(MistakeCase):
    """Templates, parameters and variants of a command."""

    def test_provenance(self) -> None:
        """One of three words, and not in contradiction to `assumed`, which older profiles have."""
        for body, expected in (
            ('provenance = "hearsay"', '"hearsay"; expected one of documented, standard, assumed'),
            ("provenance = true", "provenance: is true; expected text"),
            ('provenance = "standard"\nassumed = true', "assumed: contradicts provenance"),
            ('provenance = "assumed"\nassumed = false', "assumed: contradicts provenance"),
        ):
            self.assertIn(expected, self.command(body + '\ntemplate = { sentence = "X,1" }'))

    def test_commands(self) -> None:
        for body, expected in [
            ("", "commands.x.template: missing"),
            ("template = {}", "commands.x.template: has none; expected one of sentence, pnn"),
            ('template = { sentence = "X,1", pnn = "P01" }', "has sentence and pnn"),
            ('template = { sentence = "X" }', "commands.x.template.sentence: expected a group"),
            (
                'template = { sentence = "X,1,{p}" }',
                "{p} is no parameter of the command; expected one of none",
            ),
            ('template = { sentence = "X,1", word = 1 }', "commands.x.template.word: unknown key"),
            ('template = { raw = "x" }', "expected one placeholder"),
            ('template = { message_id = 1, body = "text" }', "expected an integer from 32768"),
            ("template = { pnn = [] }", "commands.x.template.pnn: expected a sentence, or a list of them"),
            ('template = { pnn = ["P31", "31"] }', "commands.x.template.pnn: expected a word"),
            ("template = { pnn = [31] }", "expected a list of text"),
            ('template = { pnn = "P31,{now.pages}" }', "expected a strftime format"),
            (
                'template = { pnn = ["P29,{p.pages}", "P31"] }\nparams.p.type = "text"',
                "{p.pages} divides text; expected places",
            ),
            (
                'template = { pnn = "P37,{p}" }\nparams.p = { type = "integer", also = ["0"] }',
                'params.p.also: is ["0"]; expected a list of numbers',
            ),
            (
                'template = { pnn = "P37,{p}" }\nparams.p = { type = "text", also = [0] }',
                "params.p.also: unknown key",
            ),
            ("template = { message_id = 0x8300 }", "template.body: missing"),
            (
                'template = { message_id = 0x8300, body = "x" }',
                "template.body: is 'x'; expected one of parameters_set",
            ),
            ('template = { message_id = 0x8105, body = "control" }', "template.arguments.word: missing"),
            (
                'template = { message_id = 0x8105, body = "control", arguments = { word = 256 } }',
                "from 0 to 255",
            ),
            (
                'template = { message_id = 0x8103, body = "parameters_set", arguments = { parameters = 1 } }',
                'expected a placeholder such as "{parameters}"',
            ),
            ('template = { sentence = "X,1" }\nfoo = 1', "commands.x.foo: unknown key"),
            ('template = { sentence = "X,1" }\nwhen = {}', "commands.x.when: unknown key"),
            (
                'template = { sentence = "X,1" }\nphysical = 1',
                "commands.x.physical: is 1; expected true or false",
            ),
            ('template = { sentence = "X,1" }\nrepeats = 11', "expected an integer from 1 to 10"),
            (
                'template = { sentence = "X,1" }\nphysical = true\nrepeats = 2',
                "a physical command is written once",
            ),
            ('template = { sentence = "X,1" }\nrepeats = true', "repeats: is true; expected an integer"),
            ('template = { sentence = "X,1" }\nvariants = [1]', "variants: is [1]; expected tables"),
        ]:
            self.assertIn(expected, self.command(body))

    def test_params(self) -> None:
        for body, expected in [
            ('type = "word"', "params.p.type: is 'word'; expected one of text"),
            ("", "params.p.type: missing"),
            ('type = "text"\nmin = 1', "params.p.min: unknown key"),
            ('type = "text"', "params.p: is in the template; expected required = true, a default, or from"),
            ('type = "text"\nrequired = true\nlength = [3, 2]', "params.p.length: is [3, 2]; expected n or"),
            ('type = "text"\nlength = []', "params.p.length: is []"),
            ('type = "text"\nlength = [1, 2, 3]', "params.p.length: is [1, 2, 3]"),
            ('type = "text"\npattern = "("', "params.p.pattern: "),
            ('type = "text"\nfrom = "pocket"', "expected one of static_password"),
            ('type = "text"\ndefault = "a,b"', 'params.p.default: is "a,b"; expected text'),
            ('type = "integer"\nmin = 5\nmax = 4', "params.p.min: is 5; expected at most max, 4"),
            ('type = "integer"\nmin = inf', "params.p.min: is Infinity; expected a number"),
            ('type = "choice"', "params.p.choices: expected words"),
            ('type = "choice"\nchoices = ["a,b"]', "params.p.choices: expected words"),
            ('type = "list"', "params.p.items: missing"),
            ('type = "list"\nitems = { type = "list", items = { type = "text" } }', "items.type: is list"),
            ('type = "free_text"\nrequired = true', "{p} is free_text, which can't stand in a sentence"),
            ('type = "parameters"\nwidths = { 1 = 2 }', "params.p.widths.1: expected the id"),
            ('type = "parameters"\nsecret_items = ["x"]', "params.p.x: expected the id"),
        ]:
            text = f'template = {{ sentence = "X,1,{{p}}" }}\n[commands.x.params.p]\n{body}'
            self.assertIn(
                f"commands.x.{expected}" if expected.startswith("params") else expected, self.command(text)
            )
        self.assertIn(
            "commands.x.params.q: is in no template",
            self.command('template = { sentence = "X,1" }\n[commands.x.params.q]\ntype = "text"'),
        )
        self.assertIn(
            "{p.count} counts text; expected a list",
            self.command(
                'template = { sentence = "X,1,{p.count}" }\n'
                '[commands.x.params.p]\ntype = "text"\nrequired = true'
            ),
        )

    def test_arguments(self) -> None:
        """A parameter that could overflow its place in a body is refused with the profile."""
        for body, argument, param in [
            ("control", "word", 'type = "integer"'),
            ("control", "word", 'type = "text"'),
            ("raw", "hex", 'type = "text"'),
            ("parameters_query_some", "ids", 'type = "list"\nlength = [1, 9]\nitems = { type = "text" }'),
        ]:
            message = self.command(
                f'template = {{ message_id = 0x8105, body = "{body}", '
                f'arguments = {{ {argument} = "{{p}}" }} }}\n'
                f"[commands.x.params.p]\nrequired = true\n{param}"
            )
            self.assertIn(f"commands.x.template.arguments.{argument}: {{p}} is ", message)

    def test_raw_is_physical(self) -> None:
        body = 'template = {{ raw = "{{p}}" }}\nphysical = {}\n[commands.x.params.p]\nrequired = true\n'
        body += 'type = "{}"'
        self.assertIn("commands.x.physical: is false", self.command(body.format("false", "hex")))
        self.assertIn("{p} is text; expected hex or sentence", self.command(body.format("true", "text")))

    def test_peripheral(self) -> None:
        """What names the sub-lock has to be there, and to be seen in the command's record."""
        for param in ("", 'type = "text"', 'type = "hex"\nrequired = true', 'type = "text"\nsecret = true'):
            name, template = ("p", "X,1,{p}") if param else ("q", "X,1")
            params = f'[commands.x.params.p]\n{param}\nfrom = "static_password"\n' if param else ""
            if "required" in param:
                params = params.replace('from = "static_password"\n', "")
            text = f'template = {{ sentence = "{template}" }}\nperipheral = "{name}"\n{params}'
            self.assertIn(
                f"commands.x.peripheral: is '{name}'; expected a parameter of type", self.command(text)
            )

    def test_variants(self) -> None:
        params = (
            '[commands.x.params.p]\ntype = "choice"\nchoices = ["a"]\n'
            '[commands.x.params.s]\ntype = "text"\nsecret = true\n'
        )
        for variant, expected in [
            ('template = { sentence = "X,1" }', "variants[0].when: missing"),
            ('when = { q = "a" }', "variants[0].when.q: expected a parameter of the command"),
            (
                'when = { s = "a" }',
                "variants[0].when.s: expected a parameter of the command that isn't secret",
            ),
            ('when = { p = "b" }', 'variants[0].when.p: is "b"; expected one of a'),
            ('when = { p = "a" }', "variants[0].template: missing"),
            ('when = { p = "a" }\nparams = 7', "variants[0].params: is 7; expected a table"),
            (
                'when = { p = "a" }\ntemplate = { sentence = "X,1,{s}" }',
                "variants[0].params.s: is in the template",
            ),
            ('when = { p = "a" }\ntemplate = { sentence = "X,1" }\nbar = 1', "variants[0].bar: unknown key"),
        ]:
            self.assertIn(
                f"commands.x.{expected}", self.command(f"{params}[[commands.x.variants]]\n{variant}")
            )


class ReplyMistakeTests(MistakeCase):
    """What counts as an answer, and as evidence."""

    def test_replies(self) -> None:
        for reply, expected in [
            ('kind = "sentence"', "reply.kind: is 'sentence'; expected any, none"),
            ('accepted = ["1"]', "reply.result: missing"),
            ("result = 0", "reply.accepted: missing"),
            ('result = 0, accepted = ["1"], refused = ["1"]', "reply.accepted: '1' is a yes and a refusal"),
            ("data = 0x0104", "reply.data: unknown key"),
            ("secret_arguments = [-1]", "reply.secret_arguments: is [-1]"),
        ]:
            text = f'template = {{ sentence = "X,1" }}\nreply = {{ {reply} }}'
            self.assertIn(f"commands.x.{expected}", self.command(text))

    def test_evidence(self) -> None:
        for evidence, expected in [
            ('lock_state = "ajar"', "evidence.lock_state: is 'ajar'; expected locked or unlocked"),
            ('lock_actions = ["opened"]', "evidence.lock_actions: holds 'opened'"),
            ('lock_actions = ["locked"]', "evidence.methods: missing"),
            ("within = 5", "evidence: says nothing"),
            ('lock_state = "locked", within = 0', "evidence.within: is 0"),
            ('state = "locked"', "evidence.state: unknown key"),
        ]:
            text = f'template = {{ sentence = "X,1" }}\nphysical = true\nevidence = {{ {evidence} }}'
            self.assertIn(f"commands.x.{expected}", self.command(text))
        text = 'template = { sentence = "X,1" }\nevidence = { lock_state = "locked" }'
        self.assertIn("expected physical = true", self.command(text))

    MINUTES = '[commands.x.params.m]\ntype = "integer"\nmin = 1\nmax = 5\ndefault = 5\n'

    def test_delay(self) -> None:
        """How long the lock may take is bounded, whatever the command says."""
        for delay, expected in [
            ("-1", "evidence.delay: is -1; expected seconds from 0 to 3600"),
            ("3601", "evidence.delay: is 3601; expected seconds from 0 to 3600"),
            ('"1 min"', 'evidence.delay: is "1 min"; expected a number'),
            ("{ seconds = 60 }", "evidence.delay.parameter: missing"),
            ('{ parameter = "q", seconds = 60 }', "evidence.delay.parameter: is 'q'; expected a parameter"),
            ('{ parameter = "t", seconds = 60 }', "evidence.delay.parameter: is 't'; expected a parameter"),
            ('{ parameter = "m" }', "evidence.delay.seconds: is 0; expected more than 0"),
            ('{ parameter = "m", seconds = 721 }', "at most 3600 in all for any m, which is 1 to 5"),
            ('{ parameter = "m", seconds = 60, unit = "s" }', "evidence.delay.unit: unknown key"),
        ]:
            text = (
                'template = { sentence = "X,1,{m},{t}" }\nphysical = true\n'
                f'evidence = {{ lock_state = "unlocked", delay = {delay} }}\n'
                f'{self.MINUTES}[commands.x.params.t]\ntype = "text"\nrequired = true\n'
            )
            self.assertIn(expected, self.command(text))


SHIPPED = tomllib.loads(
    (resources.files("jt709c_gateway.commands.profiles") / "jt709.toml").read_text("utf-8")
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**40),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.sampled_from(["type", "sentence", "raw", "a"]), st.text(max_size=3), max_size=2),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key of every table and list in a document, with what holds it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


class AnyMistakeTests(SynchronousTestCase):
    @given(st.data())
    def test_any_value_anywhere(self, data: st.DataObject) -> None:
        """Whatever stands wherever in a profile, it is loaded or refused in one line."""
        document = copy.deepcopy(SHIPPED)
        all_places = list(places(document))
        holder, key = all_places[data.draw(st.integers(0, len(all_places) - 1))]
        value = data.draw(VALUES)
        if value is None and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = 0 if value is None else value
        try:
            read_profile("mine.toml", document)
        except ProfileError as error:
            self.assertTrue(str(error).startswith("mine.toml: "))
            self.assertNotIn("\n", str(error))
            self.assertIn("expected", str(error))
