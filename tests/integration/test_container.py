"""The container files agree with each other and the project; `.ci/steps/75-container.sh` builds them."""

import json
import re
import shlex
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.config.settings import Settings
from jt709c_gateway.program import ProgramOptions
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE
from tests.support import ROOT
from tests.support.daemon import Daemon

_TOP = ROOT
_DIRECTORY = _TOP / "etc" / "container"


def containerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile with their arguments."""
    text = (_DIRECTORY / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def compose() -> dict[str, Any]:
    """The compose file."""
    found: dict[str, Any] = yaml.safe_load((_DIRECTORY / "compose.yaml").read_text())
    return found


def settings(command: list[str]) -> Settings:
    """Return the gateway's settings for a command line."""
    options = ProgramOptions()
    options.parseOptions(command)
    return options.settings


class ContainerTests(SynchronousTestCase):
    """Containerfile and compose file."""

    def instruction(self, name: str) -> str:
        return [rest for word, rest in containerfile() if word == name][-1]

    def test_copies_what_the_package_is_built_from(self) -> None:
        copied = set()
        for word, rest in containerfile():
            if word == "COPY" and not rest.startswith("--from"):
                *sources, target = shlex.split(rest)
                self.assertTrue(target.startswith("/src"))
                copied |= set(sources)
        for name in copied:
            self.assertTrue((_TOP / name).exists(), name)
        named = re.findall(
            r"(?m)^(?:long_description = file: |    )(README\.rst|LICENSE)$", _read("setup.cfg")
        )
        self.assertEqual(set(named), {"README.rst", "LICENSE"})
        self.assertEqual(copied, {"pyproject.toml", "setup.cfg", "jt709c_gateway", "twisted", *named})

    def test_runs_the_console_script(self) -> None:
        entry = json.loads(self.instruction("ENTRYPOINT"))
        self.assertEqual(entry, ["jt709c-gateway"])
        self.assertIn("jt709c-gateway = jt709c_gateway.program:main", _read("setup.cfg"))
        made = re.search(r"venv (\S+)", self.instruction("RUN") + " ".join(r for _, r in containerfile()))
        assert made is not None
        self.assertIn(f"PATH={made[1]}/bin:", self.instruction("ENV"))

    def test_the_options_are_right_and_their_ports_exposed(self) -> None:
        for command in (json.loads(self.instruction("CMD")), compose()["services"]["gateway"]["command"]):
            given = settings(command)
            self.assertEqual((given.listen, given.http), (("tcp:8888",), "tcp:8089"))
            self.assertEqual([one.port for one in given.udp], [8888])
            self.assertEqual(given.redis, "redis://valkey:6379")
        self.assertEqual(set(self.instruction("EXPOSE").split()), {"8888/tcp", "8888/udp", "8089/tcp"})
        ports = compose()["services"]["gateway"]["ports"]
        self.assertEqual(ports, ["8888:8888/tcp", "8888:8888/udp", "127.0.0.1:8089:8089/tcp"])

    def test_the_image_is_healthy_when_the_gateway_is_ready(self) -> None:
        check = re.search(r"CMD (\[.*\])", self.instruction("HEALTHCHECK"))
        assert check is not None
        self.assertEqual(
            compose()["services"]["gateway"]["healthcheck"]["test"], ["CMD", *json.loads(check[1])]
        )
        *_, program = json.loads(check[1])
        daemon = Daemon("--gateway", "gw1").start()
        self.addCleanup(daemon.discard)
        here = program.replace("127.0.0.1:8089", f"127.0.0.1:{daemon.http_port}")
        self.assertNotEqual(program, here)
        exec(here)  # This raises when the answer is an error, or there is none.
        daemon.stop()
        self.assertRaises(OSError, exec, here)

    def test_valkey_is_set_as_the_documentation_asks(self) -> None:
        services = compose()["services"]
        command = " ".join(services["valkey"]["command"])
        for setting in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
            self.assertIn(setting, command)
        self.assertNotIn("ports", services["valkey"])
        self.assertIn(PASSWORD_VARIABLE, services["gateway"]["environment"])
        self.assertEqual(services["gateway"]["depends_on"], {"valkey": {"condition": "service_healthy"}})
        grace = int(services["gateway"]["stop_grace_period"].rstrip("s"))
        self.assertGreater(grace, settings([]).shutdown_timeout)

    def test_the_build_finds_its_files(self) -> None:
        build = compose()["services"]["gateway"]["build"]
        self.assertEqual((_DIRECTORY / build["context"]).resolve(), _TOP)
        self.assertTrue((_DIRECTORY / build["context"] / build["dockerfile"]).is_file())


def _read(name: str) -> str:
    return (_TOP / name).read_text()
