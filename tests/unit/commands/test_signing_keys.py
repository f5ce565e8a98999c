"""Files of keys: what can be said in one, and how a mistake in one is told."""

import base64
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.commands.signing_key_file import SigningKeysError, load_signing_keys
from tests.support import temporary_path
from tests.support.signing import SECRET

HEX = SECRET.hex()
BASE64 = base64.b64encode(SECRET).decode()


class CommandKeysFileTests(SynchronousTestCase):
    def file(self, content: str | bytes, mode: int = 0o640) -> Path:
        path = Path(temporary_path(self))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def load(self, content: str) -> dict[str, SigningKey]:
        return load_signing_keys(self.file(content))

    def refused(self, content: str | bytes) -> str:
        path = self.file(content)
        said = str(self.assertRaises(SigningKeysError, load_signing_keys, path))
        self.assertTrue(said.startswith(f"{path}: "), said)
        self.assertEqual(len(said.splitlines()), 1)
        for secret in (HEX, BASE64, HEX[:30], BASE64[:20]):
            self.assertNotIn(secret, said)
        return said.removeprefix(f"{path}: ")

    def test_secrets(self) -> None:
        """In hex, in base64, alone or in a table."""
        found = self.load(f'a = "{HEX.upper()}"\n[c]\nsecret = "{base64.b64encode(b"x" * 16).decode()}"\n')
        self.assertEqual(found, {"a": SigningKey("a", SECRET), "c": SigningKey("c", b"x" * 16)})
        self.assertEqual(self.load(f'k = "{BASE64}"')["k"].secret, SECRET)
        self.assertNotIn(repr(SECRET)[2:-1], repr(found))

    def test_limits(self) -> None:
        key = self.load(
            f"""
            [k1]
            secret = "{HEX}"
            commands = ["unseal", "own_command"]
            devices = ["00794308010679", "04a1b2c3d4"]
            prefixes = ["79430802"]
            not_before = 2026-12-01T00:00:00Z
            not_after = 2027-01-01T01:00:00+01:00
            """
        )["k1"]
        self.assertEqual(key.commands, frozenset(["unlock", "own_command"]))
        self.assertEqual(key.devices, frozenset(["794308010679", "04A1B2C3D4"]))
        self.assertEqual(key.prefixes, ("79430802",))
        self.assertEqual((key.not_before, key.not_after), (1796083200.0, 1798761600.0))
        only_prefixes = self.load(f'[k1]\nsecret = "{HEX}"\nprefixes = ["7"]')["k1"]
        self.assertTrue(only_prefixes.is_for("794308010679"))
        self.assertFalse(only_prefixes.is_for("867284063211238"))

    def test_mistakes(self) -> None:
        """Each is told with the key it is in and what is right."""
        for content, pattern in (
            ("", "^holds no key"),
            (f'k1 = "{HEX}', "expected TOML$"),
            (b"\xff\xfe", "not UTF-8"),
            ('k1 = ""', "^k1.secret: missing or not readable; expected a secret of at least 16 bytes"),
            (f'k1 = "{HEX[:30]}"', "^k1.secret: is 15 bytes; expected a secret of at least 16 bytes"),
            (f'k1 = "{HEX[:41]}"', "^k1.secret: missing or not readable"),
            (f'k1 = "{BASE64}!"', "^k1.secret: missing or not readable"),
            ("k1 = 5", "^k1: expected a secret"),
            (f'["k 1"]\nsecret = "{HEX}"', "^a key's id is wrong; expected 1 to 64 letters"),
            (f'[k1]\nsecrets = "{HEX}"', "^k1.secret: missing"),
            (f'[k1]\nsecret = "{HEX}"\ncommand = ["unlock"]', "^k1.command: unknown key; expected one of"),
            (f'[k1]\nsecret = "{HEX}"\ncommands = "unlock"', "^k1.commands: .*expected a list"),
            (
                f'[k1]\nsecret = "{HEX}"\ncommands = ["Un lock"]',
                "^k1.commands: .*expected a list of commands",
            ),
            (f'[k1]\nsecret = "{HEX}"\ndevices = ["lock 7"]', "^k1.devices: .*expected a list of devices"),
            (f'[k1]\nsecret = "{HEX}"\nprefixes = [""]', "^k1.prefixes: .*expected a list of prefixes"),
            (f'[k1]\nsecret = "{HEX}"\nnot_after = 2027-01-01', "^k1.not_after: .*with its offset"),
            (f'[k1]\nsecret = "{HEX}"\nnot_after = 2027-01-01T00:00:00', "^k1.not_after: .*with its offset"),
            (
                f'a = "{HEX}"\nb = "{BASE64}"',
                "^b.secret: is that of a too; expected each key to have its own",
            ),
        ):
            self.assertRegex(self.refused(content), pattern)

    def test_open_to_others(self) -> None:
        """A file that others can read or write is refused, with the command that closes it."""
        for mode in (0o644, 0o642):
            path = self.file(f'k1 = "{HEX}"', mode)
            said = str(self.assertRaises(SigningKeysError, load_signing_keys, path))
            self.assertIn(f"chmod o= {path}", said)
            os.chmod(path, 0o640)
            load_signing_keys(path)

    def test_no_file(self) -> None:
        path = Path(temporary_path(self))
        said = str(self.assertRaises(SigningKeysError, load_signing_keys, path))
        self.assertEqual(said, f"{path}: No such file or directory; expected a file that can be read")
