"""jt709c catalogue, jt709c profiles check: what commands there are, and whether a profile can be used."""

import csv
import io
import json
import tempfile
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli import catalogue
from jt709c_gateway.cli.main import cli
from jt709c_gateway.commands.catalogue import CATALOGUE

OWN = (
    'name = "mine"\ndialect = "jt709"\nextends = "jt709"\nsource = "a test"\n'
    '[match]\nprefixes = ["7943"]\n'
    '[commands.unlock]\nassumed = false\nsource = "a manual"\n'
    '[commands.blink]\ndescription = "Show a light."\ntemplate = { sentence = "BASE,9,{times}" }\n'
    '[commands.blink.params.times]\ntype = "integer"\nmax = 9\ndefault = 1\n'
)
COUNTS = "commands: 13, wholly or partly assumed: 3, standard: 7"
JT701 = 'name = "jt701"\ndialect = "jt701"\nsource = "x"\n[commands.sleep]\ntemplate = { pnn = "P32" }\n'


class WithFiles(SynchronousTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name)

    def file(self, text, name="own.toml"):
        path = self.directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def run_cli(self, *arguments):
        return CliRunner().invoke(cli, arguments)


class CatalogueTests(WithFiles):
    def commands(self, *arguments):
        result = self.run_cli("catalogue", "--json", *arguments)
        self.assertEqual(result.exit_code, 0, result.output)
        return {entry["command"]: entry for entry in json.loads(result.stdout)}

    def test_every_command_of_the_catalogue_is_there_in_its_order(self):
        self.assertEqual(list(self.commands()), list(CATALOGUE))

    def test_rows_of_forms_as_csv_and_as_a_wide_table(self):
        result = self.run_cli("catalogue", "-o", "csv", "unlock", "cancel")
        self.assertEqual(result.exit_code, 0, result.output)
        cancel, *forms = sorted(csv.DictReader(io.StringIO(result.stdout)), key=lambda row: row["command"])
        self.assertEqual((cancel["command"], cancel["dialect"], cancel["params"]), ("cancel", "", "id*"))
        self.assertIn(
            ("unseal", "jt701", 'method="dynamic"', "documented", "method password"),
            [
                tuple(row[name] for name in ("aliases", "dialect", "condition", "provenance", "params"))
                for row in forms
            ],
        )
        wide = self.run_cli("catalogue", "-o", "wide", "unlock", "cancel").stdout.splitlines()
        self.assertEqual(len(wide), 1 + 1 + len(forms))
        self.assertEqual(
            self.run_cli("catalogue", "-o", "json", "unlock").stdout,
            self.run_cli("catalogue", "--json", "unlock").stdout,
        )

    def test_forms_say_what_they_take_and_where_they_come_from(self):
        unlock = self.commands("unlock")["unlock"]
        self.assertEqual(unlock["aliases"], ["unseal"])
        self.assertEqual(
            [(one["profile"], one["dialect"], one["standing"]) for one in unlock["profiles"]],
            [
                ("jt701", "jt701", "documented"),
                ("jt705", "jt705", "assumed"),
                ("jt709", "jt709", "assumed"),
            ],
        )
        dynamic, static = unlock["profiles"][0]["forms"]
        self.assertEqual((dynamic["condition"], static["condition"]), ('method="dynamic"', "otherwise"))
        self.assertTrue(static["physical"])
        self.assertIn("P43", static["source"])
        method, password = static["params"]
        self.assertEqual((method["type"], method["default"]), ("choice", "static"))
        self.assertEqual((password["secret"], password["from"]), (True, "static_password"))

    def test_a_parameter_is_listed_only_where_it_has_a_meaning(self):
        (jt701,) = [one for one in self.commands("query")["query"]["profiles"] if one["profile"] == "jt701"]
        takes = {form["condition"]: [param["name"] for param in form["params"]] for form in jt701["forms"]}
        self.assertEqual(takes['what="sim"'], ["what", "number"])
        self.assertEqual(takes['what="imei"'], ["what"])

    def test_commands_of_the_gateway_and_of_nobody(self):
        self.file(JT701)
        commands = self.commands("--profiles", str(self.directory), "cancel", "set_fence")
        self.assertTrue(commands["cancel"]["gateway"])
        self.assertEqual(commands["cancel"]["conditions"], {})
        self.assertIn("km/h", commands["set_fence"]["conditions"]["max_speed_kmh"])
        self.assertEqual([param["name"] for param in commands["cancel"]["params"]], ["id"])
        self.assertEqual((commands["set_fence"]["gateway"], commands["set_fence"]["profiles"]), (False, []))

    def test_profiles_of_ones_own(self):
        self.file(OWN)
        commands = self.commands("--profiles", str(self.directory))
        self.assertEqual(list(commands)[-1], "blink")
        self.assertEqual(commands["blink"]["description"], "Show a light.")
        standing = {one["profile"]: one["standing"] for one in commands["unlock"]["profiles"]}
        self.assertEqual((standing["mine"], standing["jt709"]), ("documented", "assumed"))

    def shown(self, *arguments):
        """The lines below each heading, by the heading's words before the description."""
        result = self.run_cli("catalogue", *arguments)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertNotIn("\x1b", result.stdout)
        found = {}
        for line in result.stdout.splitlines():
            if not line.startswith(" "):
                name, _, description = line.partition("  ")
                found[name] = [description.rstrip()]
            else:
                found[name].append(" ".join(line.split()))
        return found

    def test_each_command_has_its_description_its_aliases_and_its_forms(self):
        shown = self.shown()
        self.assertEqual([name.partition(",")[0] for name in shown], list(CATALOGUE))
        for name, *lines in (
            ("set_intervals", "jt701 documented awake*: an integer from 5 to 3600"),
            ("seal, lock", CATALOGUE["seal"], "jt705, jt709 assumed"),
            ("get_parameters", "jt705, jt709 standard"),
            ("unlock, unseal", CATALOGUE["unlock"], "jt701 documented method: "),
            ("cancel", "all the gateway's own id*"),
            ("query", 'number: an integer from 1 to 2; else 1 [what="sim"]'),
            ("unlock, unseal", "secret; else the static password the gateway has [otherwise]"),
        ):
            for line in lines:
                self.assertTrue(any(line in one for one in shown[name]), (name, line, shown[name]))

    def test_narrow(self):
        """No line is longer than a terminal of 80 columns, or of 60."""
        for width in (80, 60):
            out = io.StringIO()
            narrow = Console(file=out, width=width)
            self.patch(catalogue, "console", lambda narrow=narrow: narrow)
            catalogue.show(list(catalogue.load_entries(None).values()))
            self.assertLessEqual(max(map(len, out.getvalue().splitlines())), width)

    def test_commands_of_a_dialect(self):
        """With the gateway's own, which all have; named ones are shown though no profile has them."""
        of_701 = self.shown("--dialect", "jt701")
        self.assertIn("set_fence", of_701)
        self.assertIn("cancel", of_701)
        self.assertNotIn("seal, lock", of_701)
        self.assertNotIn("jt709", " ".join(line for lines in of_701.values() for line in lines[1:]))
        self.assertEqual(self.shown("--dialect", "jt701", "lock")["seal, lock"][1], "none in no profile")
        self.assertEqual(list(self.shown("unseal")), ["unlock, unseal"])

    def test_what_no_profile_has(self):
        self.file(JT701)
        shown = self.shown("--profiles", str(self.directory), "set_fence")
        self.assertEqual(shown, {"set_fence": [CATALOGUE["set_fence"], "none in no profile"]})

    def test_table_names_profiles_of_ones_own(self):
        self.file(OWN)
        result = self.run_cli("catalogue", "--profiles", str(self.directory), "blink", "unlock")
        self.assertIn("jt709 (mine)", result.stdout)
        self.assertIn("times: an integer from 0 to 9; else 1", result.stdout)
        self.assertNotIn("restart", result.stdout)

    def test_mistakes_are_one_line_and_status_2(self):
        self.file("nonsense")
        for arguments, word in (
            (("dance",), "'dance' is not a command; expected one of unlock"),
            (("--profiles", str(self.directory / "absent")), "--profiles: "),
            (("--profiles", str(self.directory)), "expected TOML"),
        ):
            result = self.run_cli("catalogue", *arguments)
            self.assertEqual(result.exit_code, 2, arguments)
            self.assertIn(word, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)


class CheckTests(WithFiles):
    def test_what_can_be_used_is_summed_up(self):
        counts = "commands: 1, wholly or partly assumed: 0, standard: 0"
        for text, summary in (
            (
                OWN,
                f"mine: can be used, for some jt709 locks; {COUNTS}\n",
            ),
            (
                JT701,
                f"jt701: can be used, for all jt701 locks; {counts}; takes the shipped profile's place\n",
            ),
        ):
            result = self.run_cli("profiles", "check", self.file(text))
            self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, summary, ""))

    def test_the_name_of_the_file_does_not_matter_nor_do_its_neighbours(self):
        self.file("nonsense", "other.toml")
        self.assertEqual(self.run_cli("profiles", "check", self.file(OWN, "draft.txt")).exit_code, 0)

    def test_files_that_build_on_each_other_are_checked_together(self):
        head = 'name = "second"\ndialect = "jt709"\nextends = "mine"\nsource = "x"\n'
        second = self.file(f'{head}[match]\ndevices = ["1"]\n', "2")
        self.assertEqual(self.run_cli("profiles", "check", second).exit_code, 1)
        result = self.run_cli("profiles", "check", self.file(OWN), second)
        self.assertEqual((result.exit_code, result.stdout.count("\n")), (0, 2))

    def test_what_is_wrong_is_one_line_and_status_1(self):
        head = 'name = "mine"\ndialect = "jt709"\nsource = "x"\n'
        for text, wrong in (
            ("nonsense", "expected TOML"),
            (b"\xff", "not UTF-8"),
            ('name = "a\\nb"\ndialect = "jt709"\nsource = "x"\n', "name: is 'a\\nb'"),
            (
                'name = "mine"\ndialect = "x"\nsource = "x"\n',
                "dialect: is 'x'; expected one of jt709, jt705, jt701",
            ),
            (head + "[commands.unlock]\n", "commands.unlock.template: missing; expected one with"),
            (
                head + "[commands.unlock]\nphysicla = true\ntemplate = { pnn = 'P43' }\n",
                "physicla: unknown key",
            ),
        ):
            path = self.file(text)
            result = self.run_cli("profiles", "check", path)
            self.assertEqual(result.exit_code, 1, result.output)
            self.assertIn(wrong, result.stderr)
            self.assertIn(path, result.stderr)
            self.assertEqual((result.stdout, result.stderr.count("\n")), ("", 1))

    def test_a_file_that_is_not_there(self):
        result = self.run_cli("profiles", "check", str(self.directory / "absent"))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("No such file or directory; expected a readable file", result.stderr)
