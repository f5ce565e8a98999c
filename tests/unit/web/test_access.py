"""Who may see the status page and give commands there."""

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import bcrypt
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.web import access, basic_auth
from jt709c_gateway.web.basic_auth import BasicAuth
from jt709c_gateway.web.htpasswd import MAX_BYTES, UsersError, read_users
from jt709c_gateway.web.http import ApiError
from tests.support import LOOPBACK, free_port, shared_server, temporary_path, wait_until
from tests.support.daemon import Daemon, run_twistd
from tests.support.web import Api, basic, user_line

ANNA, BEN = user_line("anna", "right"), user_line("ben", "väldigt hemligt")
MD5 = "carl:$apr1$dqk6kV2n$yYbcDVoMwFxyVfHzCiNxk0\n"
SHA = "carl:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"


class UsersFileTests(SynchronousTestCase):
    """The file of users."""

    def read(self, text: str | bytes) -> Any:
        path = Path(temporary_path(self))
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_users(path)

    def test_good(self) -> None:
        """Users in bcrypt, whatever its mark; comments and empty lines are left out."""
        both = self.read(f"# night shift\n\n{ANNA}{BEN.replace('$2b$', '$2y$')}\n")
        self.assertEqual(set(both.users), {"anna", "ben"})
        self.assertNotIn("$2", repr(both))

    def test_bad(self) -> None:
        """What is wrong is said with its line, and no hash is shown."""
        cases: list[tuple[str | bytes, str]] = [
            (ANNA + MD5, "line 2: the hash of carl is of another kind; expected bcrypt"),
            (SHA, "the hash of carl is of another kind"),
            ("carl:secret", "the hash of carl is of another kind"),
            ("carl", "line 1: expected name:hash"),
            (ANNA + ANNA, "line 2: anna is listed twice"),
            ("# nobody\n", "holds no user"),
            ("", "holds no user"),
            (ANNA.replace("$04$", "$15$"), "has cost 15; expected 4 to 14"),
            (b"\xff", "not UTF-8"),
            (b"#" * (MAX_BYTES + 1), "is longer than"),
        ]
        for text, why in cases:
            said = str(self.assertRaises(UsersError, self.read, text))
            self.assertIn(why, said)
            self.assertNotIn("$", said)
            self.assertNotIn("secret", said)
        self.assertRaises(UsersError, read_users, Path("/nowhere"))


class PasswordTests(TestCase):
    """Checking passwords; `check` counts, and takes what it is told to be right."""

    def setUp(self) -> None:
        self.path = Path(temporary_path(self))
        self.path.write_text(ANNA + BEN)
        self.clock = Clock()
        self.clock.advance(1000)
        self.checked: list[tuple[bytes, bytes]] = []
        self.users = BasicAuth(self.clock, read_users(self.path), {"unlock", "seal"}, self.check)
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def check(self, password: bytes, hashed: bytes) -> bool:
        self.checked.append((password, hashed))
        return password == b"right"

    async def who(self, name: str, password: str, address: str = "192.0.2.1") -> str:
        header = basic(name, password)["authorization"].encode()
        return (await self.users.authenticate(header, address)).name

    async def refused(self, name: str = "anna", password: str = "guess", address: str = "192.0.2.1") -> int:
        try:
            await self.who(name, password, address)
        except ApiError as error:
            self.assertNotIn(password, error.message)
            return error.status
        raise AssertionError("it was let in")

    async def test_remembered(self) -> None:
        """What was right is checked once, until it has grown old; what was wrong each time."""
        for _ in range(3):
            self.assertEqual(await self.who("anna", "right"), "anna")
        self.assertEqual(len(self.checked), 1)
        self.assertEqual(await self.refused(), 401)
        self.assertEqual(await self.refused(), 401)
        self.assertEqual(len(self.checked), 3)
        self.clock.advance(301)
        await self.who("anna", "right")
        self.assertEqual(len(self.checked), 4)

    async def test_remembered_for_one(self) -> None:
        """A password that is right for one user says nothing of another."""
        await self.who("anna", "right")
        await self.who("ben", "right")
        self.assertEqual(len(self.checked), 2)
        self.assertEqual(await self.refused("anna", "right:"), 401)

    async def test_unknown_user(self) -> None:
        """A name that there isn't takes a check too, and is never right."""
        self.assertEqual(await self.refused("carl", "right"), 401)
        self.assertEqual(len(self.checked), 1)

    async def test_no_credentials(self) -> None:
        """Without any, or with what is none, nothing is checked."""
        for header in (None, b"", b"Bearer x", b"Basic", b"Basic !", b"Basic YW5uYQ==", b"Basic /w=="):
            try:
                await self.users.authenticate(header, "192.0.2.1")
            except ApiError as error:
                self.assertEqual((error.status, "www-authenticate" in error.headers), (401, True))
            else:
                raise AssertionError(header)
        for password in ("x" * 73, "a\0b"):
            self.assertEqual(await self.refused("anna", password), 401)
        self.assertEqual(self.checked, [])

    async def test_slowed_down(self) -> None:
        """After some wrong attempts of an address there is no check; time forgives; others go on."""
        for _ in range(10):
            self.assertEqual(await self.refused(), 401)
        before = len(self.checked)
        self.assertEqual(await self.refused(), 429)
        self.assertEqual(await self.refused("anna", "right"), 429)
        self.assertEqual(len(self.checked), before)
        self.assertEqual(await self.who("anna", "right", "192.0.2.2"), "anna")
        # Known by now to be right, so no guess.
        self.assertEqual(await self.who("anna", "right"), "anna")
        self.clock.advance(10)
        self.assertEqual(await self.refused(), 401)
        self.assertEqual(await self.refused(), 429)

    async def test_many_at_a_time_are_no_more_guesses(self) -> None:
        """Wrong attempts that come at the same time are counted like those that come one after another."""
        found = await gatherResults([Deferred.fromCoroutine(self.refused()) for _ in range(15)])
        self.assertEqual((found.count(401), found.count(429), len(self.checked)), (10, 5, 10))

    async def test_many_at_a_time_of_one_user_are_checked_once(self) -> None:
        """A browser asks for many files at a time, and none of them is an attempt of its own."""
        asking = [Deferred.fromCoroutine(self.who("anna", "right")) for _ in range(15)]
        self.assertEqual(await gatherResults(asking), ["anna"] * 15)
        self.assertEqual(len(self.checked), 1)

    async def test_unknown_users_take_as_long_in_a_changed_file(self) -> None:
        """Nobody tells by the time it takes whether there is a user, also when the cost has changed."""
        hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(5))
        self.replace(f"anna:{hashed.decode()}\n")
        self.clock.advance(2)
        self.assertEqual(await self.refused("nobody"), 401)
        self.assertEqual(self.checked[-1][1], hashed)

    async def test_many_addresses(self) -> None:
        """Many addresses get no further, nor are they all remembered; of an IPv6 address half counts."""
        for number in range(100):
            self.assertEqual(await self.refused(address=f"198.51.100.{number}"), 401)
        self.assertEqual(await self.refused(address="203.0.113.9"), 429)
        self.assertEqual(basic_auth._network("2001:db8::1"), basic_auth._network("2001:db8::2:3"))
        for number in range(5000):
            self.users._attempts(f"10.0.{number // 250}.{number % 250}")
        self.assertLessEqual(len(self.users._attempts_by_address), 2000)

    async def test_many_remembered(self) -> None:
        """No more credentials are remembered than is said."""
        for number in range(1500):
            self.users._remember(b"%d" % number)
        self.assertEqual(len(self.users._valid), 1000)

    async def test_read_again(self) -> None:
        """A changed file counts: a new user, a new password; one that can't be used changes nothing."""
        await self.who("anna", "right")
        self.replace(BEN)
        self.clock.advance(2)
        self.assertEqual(await self.refused("anna", "right"), 401)
        self.assertEqual(await self.who("ben", "right"), "ben")
        self.replace(MD5)
        self.clock.advance(2)
        self.assertEqual(await self.who("ben", "right"), "ben")
        [complaint] = [one for one in self.logged if "carl" in str(one)]
        self.assertNotIn("$apr1", str(complaint))
        os.unlink(self.path)
        self.clock.advance(2)
        self.assertEqual(await self.who("ben", "right"), "ben")

    def replace(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)


class LocalTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """What only this host can reach."""
        for address, local in (
            (IPv4Address("TCP", "127.0.0.1", 1), True),
            (IPv4Address("TCP", "127.1.2.3", 1), True),
            (IPv6Address("TCP", "::1", 1), True),
            (UNIXAddress("/run/x"), True),
            (IPv4Address("TCP", "0.0.0.0", 1), False),
            (IPv6Address("TCP", "::", 1), False),
            (IPv4Address("TCP", "192.0.2.1", 1), False),
        ):
            self.assertEqual(access.is_local(address), local, address)


class DaemonCase(SynchronousTestCase):
    def start(self, *options: str, interface: str = "127.0.0.1", **more: Any) -> Api:
        self.daemon = Daemon(*options, redis=shared_server().url, udp=False, http=False, **more)
        self.addCleanup(self.daemon.discard)
        port = free_port()
        self.daemon._options += ("--http", f"tcp:{port}:interface={interface}")
        self.daemon.start(ready=False)
        self.daemon.http_port = port
        wait_until(lambda: self.daemon.get("/readyz")[0] == 200)
        return Api(self.daemon)

    def users(self, text: str = ANNA + BEN) -> str:
        path = temporary_path(self)
        Path(path).write_text(text)
        return path


class HostTests(DaemonCase):
    def hosts(self, api: Api, *names: str) -> list[int]:
        replies = [api.fetch("GET", "/api/v1/config", headers={"host": name}) for name in names]
        for reply in replies:
            if reply.status == 403:
                self.assertEqual(reply.error["field"], "host")
        return [reply.status for reply in replies]

    def test_loopback(self) -> None:
        """On loopback a browser has to call us by a name that stands for it, or by one that we were told."""
        api = self.start("--web-host", "Fleet.example.net", "--web-host", "10.0.0.5")
        good = ["localhost", "LOCALHOST:8089", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8089"]
        good += ["fleet.example.net", "fleet.example.net:443", "10.0.0.5"]
        self.assertEqual(self.hosts(api, *good), [200] * len(good))
        bad = [
            "evil@localhost",
            "localhost/x",
            "localhost#",
            "localhost?x",
            "x\\@localhost",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.6",
            "",
            "[",
            "127.0.0.1.evil.example",
        ]
        self.assertEqual(self.hosts(api, *bad), [403] * len(bad))
        two = b"GET /api/v1/config HTTP/1.0\r\nhost: evil.example\r\nhost: localhost\r\n\r\n"
        with socket.create_connection((LOOPBACK, self.daemon.http_port), 10) as connection:
            connection.sendall(two)
            self.assertIn(b" 403 ", connection.recv(100))
        # Not for those who watch.
        self.assertEqual(api.fetch("GET", "/metrics", headers={"host": "gw1.internal"}).status, 200)

    def test_closed_elsewhere(self) -> None:
        """Bound to all interfaces it serves those who watch, and says what is missing for the rest."""
        api = self.start(interface="0.0.0.0")
        for path in ("/healthz", "/readyz", "/metrics"):
            self.assertEqual(api.fetch("GET", path).status, 200)
        for path in ("/", "/static/leaflet/leaflet.js", "/nothing"):
            reply = api.fetch("GET", path)
            self.assertEqual((reply.status, reply.body.count(b"\n")), (403, 1))
            self.assertIn(b"--web-users", reply.body)
        self.assertIn("--web-users", api.get("/devices").error["message"])

    def test_open_elsewhere(self) -> None:
        """With --web-users none it serves everybody who calls it by an address or by a name that was told."""
        api = self.start("--web-users", "none", "--web-host", "gw1", interface="0.0.0.0")
        self.assertEqual(self.hosts(api, "192.0.2.1:8089", "[2001:db8::1]", "gw1", "localhost"), [200] * 4)
        self.assertEqual(self.hosts(api, "evil.example"), [403])
        self.assertEqual(api.get("/config").json["user"], None)


class AuthenticationTests(DaemonCase):
    def test_users(self) -> None:
        """With a file of users everything but what is watched asks who it is, on loopback too."""
        api = self.start("--web-users", self.users())
        for path in ("/", "/static/leaflet/leaflet.js", "/api/v1/config", "/nothing"):
            reply = api.fetch("GET", path)
            self.assertEqual(reply.status, 401, path)
            self.assertTrue(reply.headers["www-authenticate"].startswith('Basic realm="jt709c-gateway"'))
            self.assertEqual(api.fetch("GET", path, headers=basic("anna", "wrong")).status, 401)
        for path in ("/healthz", "/readyz", "/metrics"):
            self.assertEqual(api.fetch("GET", path).status, 200)
        for name, password in (("anna", "right"), ("ben", "väldigt hemligt")):
            config = api.fetch("GET", "/api/v1/config", headers=basic(name, password)).json
            self.assertEqual((config["user"], config["commands"]), (name, False))
        self.assertEqual(
            api.fetch("GET", "/static/leaflet/leaflet.js", headers=basic("anna", "right")).status, 200
        )
        self.assertNotIn("right", self.daemon.log())
        # Any name will do where a password is asked for.
        found = api.fetch("GET", "/api/v1/config", headers={"host": "a.example", **basic("anna", "right")})
        self.assertEqual(found.status, 403)

    def test_any_name_elsewhere(self) -> None:
        """Bound elsewhere, who has a password may call us by any name, unless names were told."""
        api = self.start("--web-users", self.users(), interface="0.0.0.0")
        asked = {"host": "a.example", **basic("anna", "right")}
        self.assertEqual(api.fetch("GET", "/api/v1/config", headers=asked).status, 200)

    def test_the_reactor_goes_on(self) -> None:
        """While passwords are checked, and they take long, the gateway answers as ever."""
        slow = "anna:" + bcrypt.hashpw(b"right", bcrypt.gensalt(13)).decode() + "\n"
        api = self.start("--web-users", self.users(slow))
        began = time.monotonic()
        asking = [
            threading.Thread(target=api.fetch, args=("GET", "/api/v1/config", None, basic("anna", "wrong")))
            for _ in range(3)
        ]
        for thread in asking:
            thread.start()
        slowest = 0.0
        while any(thread.is_alive() for thread in asking):
            at = time.monotonic()
            self.assertEqual(self.daemon.get("/healthz")[0], 200)
            slowest = max(slowest, time.monotonic() - at)
        took = time.monotonic() - began
        self.assertGreater(took, 0.3, "the checks did not take long")
        self.assertLess(slowest, took / 4)


class StartTests(SynchronousTestCase):
    """Options that don't go together stop the start with one line."""

    def said(self, *options: str) -> str:
        directory = Path(temporary_path(self))
        directory.mkdir()
        arguments = ["-n", "--pidfile=", "jt709c-gateway", "--http", "tcp:0:interface=127.0.0.1", *options]
        result = run_twistd(*arguments, directory=directory)
        self.assertNotEqual(result.returncode, 0)
        self.assertNotIn("Traceback", result.stderr)
        [line] = [one for one in result.stderr.splitlines() if one.startswith("jt709c-gateway: ")]
        return line

    def test_another_hash(self) -> None:
        """A file with a hash of another kind."""
        path = temporary_path(self)
        Path(path).write_text(MD5)
        line = self.said("--web-users", path)
        self.assertIn(
            "line 1: the hash of carl is of another kind; expected bcrypt, as htpasswd -B makes it", line
        )
        self.assertNotIn("apr1", line)

    def test_commands_without_users(self) -> None:
        """Commands that nobody gives."""
        for options in (["--web-commands"], ["--web-commands", "--web-users", "none"]):
            self.assertIn("--web-commands: expected --web-users with a file", self.said(*options))
