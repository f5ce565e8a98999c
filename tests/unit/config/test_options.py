"""Options of the command line: what is wrong is said in one line, with what is right."""

import os
import re
import sys

import attrs
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.config.options import OPTIONS
from jt709c_gateway.config.values import UdpPort
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE
from jt709c_gateway.redis.durability import Durability
from tests.support.options import OptionsCase, parse
from tests.support.signing import SECRET
from tests.support.web import user_line

SECONDS = ["", "0", "-1", "soon", "nan", "inf", "1e300", "10s"]
COUNTS = ["", "0", "-1", "1.5", "many", "99999999999", "٣"]
FILES = ["", "/nowhere/file", "/"]
#: Every option that has a value: values that are refused, and a word of what is said to be right.
BAD: dict[str, tuple[list[str], str]] = {
    "redis": (
        ["", "localhost", "http://h", "redis://", "redis://h:x", "redis://h/x", "embedded:0", "unix://x"],
        "expected",
    ),
    "redis-password-file": (FILES, "file"),
    "redis-ca": (FILES, "file"),
    "redis-cert": (FILES, "file"),
    "redis-key": (FILES, "file"),
    "redis-timeout": (SECONDS, "seconds"),
    "durability": (
        ["", "disk", "Server", "replicas", "replicas:", "replicas:0", "replicas:-1", "replicas:x", "fsync:1"],
        "replicas:1",
    ),
    "durability-timeout": (SECONDS, "seconds"),
    "listen": (
        [
            "",
            "8888",
            "tcp:x",
            "tcp:99999",
            "nonsense:1",
            "tcp:-1",
            "haproxy:tcp:99999",
            "haproxy:haproxy:tcp:1",
        ],
        "tcp:8888",
    ),
    "udp": (["", "x", "-1", "70000", "0x1", "8888:iface=x", "8888:interface=not an address"], "8888"),
    "http": (["", "8089", "nonsense:1"], "tcp:8888"),
    "web-users": (FILES, "file"),
    "web-host": (["", "a b", "http://a", "a:80", "a/b", "-"], "without a port"),
    "web-command-key": (["", "a b", "ä", "x" * 65], "id of a key"),
    "web-tiles": (
        ["", "tiles", "https://h/{z}/{x}", "ftp://h/{z}/{x}/{y}", "https://h;/{z}/{x}/{y}"],
        "https://tiles.example.net/{z}/{x}/{y}.png",
    ),
    "web-tiles-attribution": (["", "x" * 301, "a\u200eb"], "printable"),
    "data-dir": ([""], "directory"),
    "prefix": (["", "a b", "a*", "ä", "x" * 65], "letters"),
    "partitions": (["", "0", "257", "-1", "x"], "from 1 to 256"),
    "pubsub": (["", "shared"], "classic or sharded"),
    "gateway": (["", "a b", "a:b", "ä", "x" * 65], "letters"),
    "workers": ([*COUNTS, "65", "100"], "from 1 to 64"),
    "idle-timeout": (SECONDS, "seconds"),
    "first-frame-timeout": (SECONDS, "seconds"),
    "max-connections": (COUNTS, "whole number"),
    "max-connections-per-address": (COUNTS, "whole number"),
    "max-sessions": (COUNTS, "whole number"),
    "devices-per-connection": (COUNTS, "whole number"),
    "sessions-per-address": (COUNTS, "whole number"),
    "max-malformed": (COUNTS, "whole number"),
    "admit": (["", "all", "none", "Redis"], "any, file or redis"),
    "devices": (FILES, "file"),
    "max-rate": (["", "-1", "many", "nan", "inf", "1e300"], "events a second"),
    "max-share": (["", "-1", "101", "all", "nan", "20%"], "percent"),
    "max-new-devices": (["", "-1", "1.5", "all"], "whole number from 0"),
    "max-unacked": (COUNTS, "whole number"),
    "commit-window": (["", "-1", "1001", "5ms", "nan"], "milliseconds"),
    "events-max": (COUNTS, "whole number"),
    "events-max-age": (["", "-1", "soon", "nan"], "seconds"),
    "history-max": (COUNTS, "whole number"),
    "histories-max": (COUNTS, "whole number"),
    "track-max": (["", "-1", "1.5", "all"], "whole number from 0"),
    "malformed-max": (COUNTS, "whole number"),
    "devices-max": (COUNTS, "whole number"),
    "profiles": (["", "/nowhere", "/etc/passwd"], "directory"),
    "static-password-file": (FILES, "file"),
    "command-keys": (FILES, "file"),
    "command-window": (SECONDS, "seconds"),
    "confirm-timeout": (SECONDS, "seconds"),
    "sublock-answer": (["", "both", "Sublock", "1"], "sublock or sentence"),
    "utc8": (["", "0", "All", "79 43", "7943*", "1" * 21], "first digits of device ids, or all"),
    "ask": (["", "jt808", "JT701", "all"], "one of jt709, jt705, jt701, or none"),
    "udp-window": (SECONDS, "seconds"),
    "udp-commands": (["", "yes", "TCP", "confirmed "], "confirmed, any, tcp"),
    "gateway-ttl": (SECONDS, "seconds"),
    "shutdown-timeout": (SECONDS, "seconds"),
}


class CommandLineTests(OptionsCase):
    def test_defaults(self) -> None:
        """Without options there are sound defaults for everything."""
        settings = parse()
        self.assertEqual(settings.listen, ("tcp:8888",))
        self.assertEqual(settings.udp, (UdpPort(8888),))
        self.assertEqual(settings.prefix, "jt709c")
        self.assertTrue(settings.gateway.endswith(f"-{os.getpid()}"))
        self.assertFalse(settings.allow_raw)
        self.assertEqual({option.key for option in OPTIONS} - set(attrs.asdict(settings)), set())

    def test_every_option_is_tried(self) -> None:
        """The table below leaves out no option that has a value."""
        self.assertEqual(set(BAD), {option.name for option in OPTIONS if option.parse is not None})

    def test_bad_values(self) -> None:
        """Every bad value is refused with the option, the value and what is right."""
        for name, (values, right) in BAD.items():
            for value in values:
                said = self.refused(f"--{name}={value}")
                self.assertIn(f"--{name}", said)
                self.assertIn(right, said, value)
                if name != "redis":
                    self.assertIn(repr(value), said)

    def test_unknown_option(self) -> None:
        """So is an option that doesn't exist, an argument too many, and a flag with a value."""
        self.assertIn("--nonsense", self.refused("--nonsense=1"))
        self.assertIn("extra", self.refused("extra"))
        self.assertIn("--no-udp", self.refused("--no-udp=yes"))
        self.assertIn("--gateway", self.refused("--gateway"))

    def test_password_not_shown(self) -> None:
        """A password in an address that is wrong is not repeated."""
        for text in ("redis://user:s3cret@h:x", "redis//user:s3cret@h", "rediss://:s3cret@"):
            self.assertNotIn("s3cret", self.refused("--redis", text))

    def test_whom_to_ask(self) -> None:
        """Dialects add up; none is for nobody, and stands alone. In the file it is a list."""
        both, nobody, empty, one = (
            "--config=" + self.file(f"ask = {value}")
            for value in ('["jt701", "jt709"]', '"none"', "[]", '["jt701"]')
        )
        for arguments, dialects in [
            ([], {"jt701"}),
            (["--ask=jt709", "--ask", "jt705"], {"jt709", "jt705"}),
            (["--ask=none"], set()),
            ([both], {"jt701", "jt709"}),
            ([nobody], set()),
            ([empty], set()),
            ([one, "--ask=none"], set()),
        ]:
            self.assertEqual(parse(*arguments).ask, dialects, arguments)
        said = self.refused("--ask=none", "--ask=jt701")
        self.assertIn("--ask none: expected it alone, not together with jt701", said)

    def test_repeatable(self) -> None:
        """Ports can be given several times; the default is then none of them."""
        settings = parse("--listen=tcp:1", "--listen=tcp:2", "--udp=3", "--udp=4:interface=127.0.0.1")
        self.assertEqual(settings.listen, ("tcp:1", "tcp:2"))
        self.assertEqual(settings.udp, (UdpPort(3), UdpPort(4, "127.0.0.1")))

    def test_certificates_without_tls(self) -> None:
        """Certificates go with an address that uses them."""
        path = self.file("x")
        for address in ("redis://h", "embedded", "unix:///run/redis"):
            self.assertIn("rediss://", self.refused("--redis", address, "--redis-ca", path))

    def test_cluster_without_hash_tag(self) -> None:
        """On a cluster the prefix is a hash tag, lest the keys be in many slots."""
        for prefix in ("jt709c", "{}jt709c", "}jt{709c"):
            said = self.refused("--redis", "redis+cluster://h", "--prefix", prefix)
            self.assertIn(repr(prefix), said)
            self.assertIn("{jt709c}", said)
        for prefix in ("{jt709c}", "eu:{fleet}:1"):
            parse("--redis", "redis+cluster://h", "--prefix", prefix)

    def test_certificate_without_key(self) -> None:
        """A certificate goes with its key."""
        path = self.file("x")
        self.assertIn("--redis-key", self.refused("--redis-cert", path))
        self.assertIn("--redis-cert", self.refused("--redis-key", path))

    def test_admission(self) -> None:
        """Which locks are heard, and the file that goes with it; every contradiction is refused."""
        path = self.file("# gate 3\n0794308010679 # spare\n\n 864180050123456\r\n794308010679\n")
        self.assertEqual(parse().admit, "any")
        settings = parse("--devices", path)
        self.assertEqual(settings.admit, "file")
        self.assertEqual(settings.devices.devices, {"794308010679", "864180050123456"})
        self.assertEqual(parse("--admit=redis").admit, "redis")
        self.assertEqual(parse("--admit=file", "--devices", path).admit, "file")
        self.assertIn("--devices", self.refused("--admit=file"))
        for other in ("any", "redis"):
            said = self.refused("--devices", path, f"--admit={other}")
            self.assertIn(repr(other), said)
            self.assertIn("--devices", said)

    def test_bad_devices(self) -> None:
        """A file of ids that is wrong is refused with its line, the value, and what is right."""
        for content, right in (
            ("1\n2\n79430x\n", "line 3: '79430x': expected a device id or an IMEI"),
            ("1 2", "line 1: '1 2': expected"),
            ("1" * 21, "1 to 20 digits"),
            ("٣", "line 1: '٣': expected"),
            ("# nobody\n\n", "at least one"),
            (b"\xff\xfe1", "text file"),
            (b"1\n" * (1 << 21) + b"1\n", "at most 4 MiB"),
        ):
            path = self.file(content)
            for said in (
                self.refused("--devices", path),
                self.refused("--config", self.file(f"devices = '{path}'")),
            ):
                self.assertIn(repr(path), said)
                self.assertIn(right, said)

    def test_rate(self) -> None:
        """A rate may be any number from 0 on."""
        self.assertEqual(
            [parse(f"--max-rate={text}").max_rate for text in ("0", "0.5", "100")], [0, 0.5, 100]
        )

    def test_web(self) -> None:
        """What belongs together on the status page is asked for together."""
        users, keys = self.file(user_line("anna", "right")), self.file(f'page = "{SECRET.hex()}"\n')
        os.chmod(keys, 0o600)
        self.assertEqual(set(parse("--web-users", users).web_users.users), {"anna"})
        self.assertEqual(parse("--web-users", "none").web_users, "none")
        self.assertEqual(parse("--web-host", "A.b", "--web-host=::1").web_host, ("a.b", "::1"))
        for arguments, right in (
            (["--web-commands"], "--web-users with a file"),
            (["--web-commands", "--web-users=none"], "--web-users with a file"),
            (["--web-command-key=page"], "expected --command-keys"),
            (["--web-command-key=other", "--command-keys", keys], "expected one of page"),
            (
                ["--web-commands", "--web-users", users, "--command-keys", keys],
                "--web-command-key with one of",
            ),
        ):
            self.assertIn(right, self.refused(*arguments))
        good = ["--web-commands", "--web-users", users, "--command-keys", keys, "--web-command-key", "page"]
        self.assertEqual(parse(*good, "--http=tcp:0").web_command_key, "page")
        # Commands are given on a page, which somebody has to be able to call.
        for arguments in (good, ["--web-commands", "--web-users", users]):
            self.assertIn("--web-commands: expected --http", self.refused(*arguments))

    def test_web_users_of_another_kind(self) -> None:
        """A hash that is not bcrypt's is refused with its line, and not shown."""
        said = self.refused("--web-users", self.file(user_line("anna", "right") + "ben:$apr1$x$y\n"))
        self.assertIn("line 2: the hash of ben is of another kind; expected bcrypt", said)
        self.assertNotIn("$apr1", said)

    def test_workers(self) -> None:
        """Several workers need ports that can be shared, and names that leave room for their numbers."""
        self.assertEqual(parse().workers, 1)
        self.assertEqual(parse("--workers=64", "--listen=tcp6:1", f"--gateway={'x' * 61}").workers, 64)
        self.assertIn("--listen 'unix:x'", self.refused("--workers=2", "--listen=tcp:1", "--listen=unix:x"))
        self.assertEqual(parse("--workers=2", "--no-tcp", "--listen=unix:x").workers, 2)
        self.assertIn("--gateway", self.refused("--workers=64", f"--gateway={'x' * 62}"))
        self.patch(sys, "platform", "darwin")
        self.assertIn("--workers 2", self.refused("--workers=2"))
        self.assertEqual(parse("--workers=1").workers, 1)

    def test_durability(self) -> None:
        """What commits wait for, and for how long; by default for nothing."""
        self.assertFalse(parse().durability.waits)
        self.assertEqual(parse("--durability=fsync").durability, Durability(fsync=True))
        found = parse("--durability=replicas:2", "--durability-timeout=1.5").durability
        self.assertEqual(found, Durability(replicas=2, timeout=1.5))

    def test_durability_embedded(self) -> None:
        """The embedded server has no replicas, and this is said at once; it can be asked to sync."""
        for address in ("embedded", "embedded:7000"):
            said = self.refused("--redis", address, "--durability", "replicas:2")
            self.assertIn("--durability replicas:2", said)
            self.assertIn("embedded server has none", said)
        self.assertTrue(parse("--redis=embedded", "--durability=fsync").durability.fsync)

    def test_password(self) -> None:
        """The password comes from a file, without the line end, or from the environment."""
        self.assertIsNone(parse().redis_password)
        self.patch(os, "environ", {**os.environ, PASSWORD_VARIABLE: "from outside"})
        self.assertEqual(parse().redis_password, "from outside")
        path = self.file("from a file\n")
        self.assertEqual(parse("--redis-password-file", path).redis_password, "from a file")

    def test_unreadable_password(self) -> None:
        """A password file that holds no text is refused, without showing what it holds."""
        for name in ("redis-password-file", "static-password-file"):
            for content in (b"\xff\xfes3cret", b"\ns3cret", b""):
                said = self.refused(f"--{name}", self.file(content))
                self.assertIn(f"--{name}", said)
                self.assertIn("expected a text file", said)
                self.assertNotIn("s3cret", said)


class DocumentationTests(SynchronousTestCase):
    def test_defaults_in_help(self) -> None:
        """A default that the help names is the one that counts."""
        for option in OPTIONS:
            found = re.search(r"\[default: ([^\]]+)\]", option.help)
            if found and option.parse is not None and found[1] != "host-pid":
                default = option.default[0] if option.repeatable else option.default
                self.assertEqual(option.parse(found[1]), default, option.name)
