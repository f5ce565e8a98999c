"""Options from a file: what is wrong is said in one line with the file, and what is right."""

from jt709c_gateway.config.values import UdpPort
from jt709c_gateway.redis.durability import Durability
from tests.support.options import OptionsCase, parse
from tests.unit.config.test_options import BAD


class FileTests(OptionsCase):
    def config(self, text: str | bytes) -> str:
        return f"--config={self.file(text)}"

    def test_values(self) -> None:
        """A TOML file has any option by its name, with - or _, as a text or a number, and lists."""
        settings = parse(
            self.config(
                'redis = "redis://h:1"\nlisten = ["tcp:1", "tcp:2"]\nudp = 3\nno-tcp = true\n'
                'idle_timeout = 60\nconfirm-timeout = 1.5\nmax-sessions = "7"\nallow-raw = false\n'
            )
        )
        self.assertEqual(settings.redis, "redis://h:1")
        self.assertEqual(settings.listen, ("tcp:1", "tcp:2"))
        self.assertEqual(settings.udp, (UdpPort(3),))
        self.assertEqual((settings.no_tcp, settings.allow_raw), (True, False))
        self.assertEqual((settings.idle_timeout, settings.confirm_timeout), (60.0, 1.5))
        self.assertEqual(settings.max_sessions, 7)

    def test_command_line_wins(self) -> None:
        """What the command line says counts, wherever it stands."""
        config = self.config('listen = ["tcp:1", "tcp:2"]\nprefix = "file"\ngateway = "file"')
        for arguments in (
            [config, "--listen=tcp:9", "--prefix=line"],
            ["--prefix=line", "--listen=tcp:9", config],
        ):
            settings = parse(*arguments)
            self.assertEqual(
                (settings.listen, settings.prefix, settings.gateway), (("tcp:9",), "line", "file")
            )

    def test_bad_values(self) -> None:
        """A bad value is refused with the file, the key, the value and what is right."""
        for name, (values, right) in BAD.items():
            for value in values:
                path = self.file(f"{name} = '{value}'")
                said = self.refused("--config", path)
                self.assertIn(f"{path}: {name}", said)
                self.assertIn(right, said, value)
                if name != "redis":
                    self.assertIn(repr(value), said)

    def test_bad_types(self) -> None:
        """A value of another type is refused."""
        for text in (
            "no-tcp = 1",
            'allow-raw = "yes"',
            "idle-timeout = true",
            "idle-timeout = [1]",
            "prefix = {a = 1}",
            "listen = [true]",
            "listen = [[1]]",
            "max-sessions = 1.5",
            "idle-timeout = nan",
            "idle-timeout = 2020-01-01",
            "[redis]\nurl = 'x'",
        ):
            path = self.file(text)
            self.assertIn(f"{path}: ", self.refused("--config", path), text)

    def test_words_of_toml(self) -> None:
        """A wrong type is named as TOML names it, and a table is told where options stand."""
        for text, said in (
            ("idle-timeout = true", "idle-timeout: expected a text or a number, not true"),
            ("idle-timeout = [1]", "idle-timeout: expected a text or a number, not a list"),
            ("idle-timeout = 2020-01-01", "not a date or a time"),
            ("[gateway]\nname = 'x'", "not a table; options stand at the top level of the file"),
            ("[jt709c]\nname = 'x'", "[jt709c]: a table; expected the options at the top level of the file"),
        ):
            self.assertIn(said, self.refused("--config", self.file(text)))

    def test_unknown_key(self) -> None:
        """A key that is no option is refused, with the name that was probably meant."""
        for text, said in (
            ("prefx = 'x'", "prefx: no such option; did you mean prefix?"),
            ("max_conections = 1", "max_conections: no such option; did you mean max-connections?"),
            ("qqq = 1", "qqq: no such option; --help lists the options"),
        ):
            path = self.file(text)
            self.assertIn(f"{path}: {said}", self.refused("--config", path))

    def test_key_twice(self) -> None:
        """One option in both spellings is refused, rather than one of them forgotten."""
        path = self.file("idle-timeout = 1\nidle_timeout = 2")
        self.assertIn("idle_timeout", self.refused("--config", path))

    def test_durability(self) -> None:
        """The file says it as the command line does."""
        settings = parse(self.config('durability = "replicas:1"\ndurability-timeout = 2'))
        self.assertEqual(settings.durability, Durability(replicas=1, timeout=2.0))
        path = self.file('durability = "replicas:0"')
        self.assertIn(f"{path}: durability 'replicas:0': expected server", self.refused("--config", path))

    def test_no_toml(self) -> None:
        """A file that is no TOML, no text, or not there, is refused by name."""
        for text in ("this is no toml", "a = ", b"\xff\xfe"):
            path = self.file(text)
            self.assertIn(path, self.refused("--config", path))
        self.assertIn("/nowhere/x.toml", self.refused("--config=/nowhere/x.toml"))
        self.assertIn("--config", self.refused("--config=/"))

    def test_password_not_shown(self) -> None:
        """A password in an address that is wrong is not repeated."""
        for text in (
            "redis = 'redis://u:s3cret@h:x'",
            "redis = ['redis://u:s3cret@h']",
            "redis = 'x:s3cret@h",
        ):
            self.assertNotIn("s3cret", self.refused("--config", self.file(text)))
