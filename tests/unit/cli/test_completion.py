"""What a shell completes, by the protocol between it and the command; help texts and their examples."""

import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.main import cli
from jt709c_gateway.commands.catalogue import ALIASES, CATALOGUE
from jt709c_gateway.protocol.events import KINDS
from tests.support import ROOT, temporary_path
from tests.support.acl import READER, GuardedServer
from tests.support.cli import COMMAND, TIMEOUT, put_device, run


def complete(*words: str, shell: str = "bash", **environment: str) -> list[str]:
    """What is offered for the last of the words: one line each, as the shell's script gets it."""
    given = {
        "_JT709C_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": shlex.join(["jt709c", *words]),
        # fish sends the word itself.
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }
    result = run(**given, **environment)
    assert result.stderr == "", result.stderr
    return [line for line in result.stdout.splitlines() if line]


def plain(*words: str, **environment: str) -> set[str]:
    """The words that bash gets."""
    lines = [line.split(",", 1) for line in complete(*words, **environment)]
    assert all(kind == "plain" for kind, _ in lines), lines
    return {word for _, word in lines}


class CompletionTests(SynchronousTestCase):
    def test_commands_and_options(self) -> None:
        self.assertEqual(plain("de"), {"decode", "devices"})
        self.assertEqual(plain("devices", "--o"), {"--online", "--offline", "--output"})
        self.assertEqual(plain("devices", "--dialect", "jt70"), {"jt709", "jt705", "jt701"})
        self.assertEqual(plain("completion", ""), {"bash", "zsh", "fish"})

    def test_words_of_ours(self) -> None:
        """Commands with their aliases, kinds and alarms."""
        self.assertEqual(plain("send", ""), {*CATALOGUE, *ALIASES})
        self.assertEqual(plain("catalogue", "unl"), {"unlock"})
        self.assertEqual(plain("watch", "--kind", ""), set(KINDS))
        self.assertEqual(plain("devices", "--alarm", "fence_"), {"fence_entered", "fence_left"})

    def test_parameters(self) -> None:
        """With their values where there are few; what is given is offered no more, and a secret never."""
        self.assertEqual(plain("send", "unlock", "1", ""), {"method=static", "method=dynamic"})
        self.assertEqual(plain("send", "unseal", "1", "p"), set())
        self.assertEqual(plain("send", "set_password", "1", ""), set())
        self.assertEqual(plain("send", "text", "1", "text=x", ""), {"flags="})
        self.assertIn("what=firmware", plain("send", "query", "1", "what=f"))
        self.assertEqual(plain("send", "query", "1", "what", "=", "fi"), {"firmware"})
        self.assertEqual(plain("send", "set_tracking", "1", ""), {"on=true", "on=false"})
        self.assertEqual(plain("send", "nonsense", "1", ""), set())

    def test_files(self) -> None:
        for words in (("replay", "x"), ("decode", "--file", "x"), ("send", "--password-file", "x")):
            self.assertEqual(complete(*words), ["file,x"])
        self.assertEqual(complete("catalogue", "--profiles", "x"), ["dir,x"])

    def test_other_shells(self) -> None:
        """zsh and fish get a word about each command."""
        self.assertEqual(complete("send", "seal", shell="zsh"), ["plain", "seal", "Close the lock."])
        (line,) = complete("send", "seal", shell="fish")
        self.assertRegex(line, "^plain,seal\tClose the lock.$")

    def test_scripts(self) -> None:
        """Each shell's script calls us; bash runs its own here."""
        for shell, word in (
            ("bash", "complete -o"),
            ("zsh", "#compdef jt709c"),
            ("fish", "complete --no-files"),
        ):
            result = run("completion", shell)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn(word, result.stdout)
            self.assertIn(f"_JT709C_COMPLETE={shell}_complete", result.stdout)
        script = run("completion", "bash").stdout
        script += (
            "COMP_WORDS=(jt709c send uns); COMP_CWORD=2; _jt709c_completion jt709c; echo ${COMPREPLY[*]}\n"
        )
        program = Path(temporary_path(self)).parent / "jt709c"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        result = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        )
        self.assertEqual((result.stdout, result.stderr), ("unseal\n", ""))


class DeviceTests(SynchronousTestCase):
    def test_ids(self) -> None:
        """As a reader; those heard last first, of whatever begins so."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        with server.client() as redis:
            for number in range(150):
                put_device(redis, str(794308020000 + number), time.time() - number)
            put_device(redis, "55001", time.time())
        url = server.url_of(READER)
        self.assertEqual(plain("history", "55", JT709C_REDIS=url), {"55001"})
        self.assertEqual(plain("send", "unlock", "55", JT709C_REDIS=url), {"55001"})
        self.assertEqual(plain("watch", "--redis", url, "--device", "550"), {"55001"})
        found = [line.split(",")[1] for line in complete("history", "7943", JT709C_REDIS=url)]
        self.assertEqual(found, [str(794308020000 + number) for number in range(100)])
        self.assertEqual(plain("history", "", "--prefix", "other", JT709C_REDIS=url), set())
        self.assertEqual(plain("history", "5", JT709C_REDIS=url.replace("secret", "wrong")), set())

    def test_silence(self) -> None:
        """A server that is not there, none that is one, and one that says nothing, delay nobody for long."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            for url in ("redis://127.0.0.1:9", "nonsense", f"redis://127.0.0.1:{mute.getsockname()[1]}"):
                began = time.monotonic()
                self.assertEqual(plain("history", "7", JT709C_REDIS=url), set())
                self.assertLess(time.monotonic() - began, 10)


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words, those of groups included."""
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            assert one is not None
            found += commands(one, (*path, name))
    return found


def examples(text: str) -> list[list[str]]:
    """The words of each example in a help text, behind `jt709c` and up to a pipe or a redirection."""
    found = []
    for line in re.sub(r"\\\n\s*", "", text.partition("Examples:")[2]).splitlines():
        found += [shlex.split(one) for one in re.findall(r"\bjt709c ([^|<>]+)", line)]
    return found


class HelpTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """Each command that does something has some, and each of them is a command line that is accepted."""
        self.patch(os, "environ", {})
        for path, command in commands():
            if isinstance(command, click.Group) or path == ("completion",):
                continue
            text = command.get_help(click.Context(command, info_name=" ".join(path)))
            given = examples(text)
            self.assertTrue(given, path)
            for words in given:
                own = path if tuple(words[: len(path)]) == path else tuple(words[:1])
                (found,) = [one for name, one in commands() if name == own]
                context = found.make_context(own[-1], words[len(own) :])
                self.assertEqual(context.args, [], words)

    def test_examples_run(self) -> None:
        """Those that need neither files nor Redis do what they say."""
        for command in ("decode", "explain", "catalogue"):
            for words in examples(run(command, "--help").stdout):
                if not any("/" in word or ".txt" in word for word in words):
                    result = run(*words)
                    self.assertEqual((result.returncode, result.stderr), (0, ""), words)

    def test_frames_in_examples_are_plausible(self) -> None:
        """No battery of an example is above 100 %, and at least one example has a battery."""
        found = []
        for words in examples(run("decode", "--help").stdout):
            if not any(".txt" in word for word in words):
                found += re.findall(r"battery_percent +(\d+)", run(*words).stdout)
        self.assertTrue(found)
        self.assertEqual([percent for percent in found if int(percent) > 100], [])

    def test_lines(self) -> None:
        """A help text fits a terminal of 80 columns, examples too, and every option has a word about it."""
        for path, command in commands():
            text = command.get_help(click.Context(command, info_name=" ".join(path), terminal_width=80))
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, line)
            for param in command.params:
                if isinstance(param, click.Option):
                    self.assertTrue(param.help, (path, param.name))
                    self.assertTrue(param.help.endswith((".", "]")) or "  [" in param.help, param.help)

    def test_documentation(self) -> None:
        """Every command has its place in docs/cli.rst, and what is shown there as typed is accepted."""
        text = (ROOT / "docs" / "cli.rst").read_text()
        for path, command in commands():
            if not isinstance(command, click.Group):
                self.assertIn(" ".join(path), text)
        self.patch(os, "environ", {})
        typed = [line for line in text.splitlines() if re.match(r"    (\$ )?jt709c ", line)]
        self.assertGreater(len(typed), 8)
        for line in typed:
            (words, *_) = examples("Examples:\n" + line)
            found = cli.get_command(click.Context(cli), words[0])
            assert found is not None, line
            try:
                found.make_context(words[0], words[1:])
            except click.ClickException as error:
                self.fail(f"{line}: {error.format_message()}")

    def test_commands_in_examples(self) -> None:
        """Commands of the examples are in the catalogue, and their parameters in a profile."""
        from jt709c_gateway.cli import command_arguments

        for words in examples(run("send", "--help").stdout):
            self.assertIn(words[1], CATALOGUE)
            given = [word for word in words[3:] if re.match("[a-z]+=", word)]
            command_arguments.read_params(words[1], given)
            self.assertLessEqual(
                {word.partition("=")[0] for word in given} - {"id"},
                set(command_arguments.known_params(words[1])),
            )
