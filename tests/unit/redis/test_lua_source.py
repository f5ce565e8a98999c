"""The Lua scripts have the names of keys from `Keys`, and spell none themselves."""

import re
from inspect import signature
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import jt709c_gateway.redis
from jt709c_gateway.redis import lua_source, scripts
from jt709c_gateway.redis.keys import Keys

_FILES = sorted(Path(jt709c_gateway.redis.__file__).parent.joinpath("lua").glob("*.lua"))
_NAMES = [
    name for name in vars(Keys) if not name.startswith("_") and name not in ("prefix", "channels", "count")
]


class LuaSourceTests(SynchronousTestCase):
    def test_no_name_is_spelled(self) -> None:
        """No file has the text of a key's name, or puts anything behind the prefix."""
        self.assertGreater(len(_FILES), 15)
        families = {lua_source._constant(name) for name in _NAMES}
        self.assertIn(":commands:waiting:", families)
        for path in _FILES:
            code = re.sub("--.*", "", path.read_text())
            spelled = {one for one in re.findall(r"['\"]([^'\"\n]*)['\"]", code) if one in families}
            self.assertEqual(spelled, set(), path.name)
            # A family that isn't in `Keys` would begin like this, and its name with the prefix.
            self.assertEqual(
                re.findall(r"['\"]:[a-z_]+[:'\"]|\bprefix\b|ARGV\[1\] *\.\.", code), [], path.name
            )

    def test_names(self) -> None:
        """A name in a script is that of `Keys`, whatever follows it."""
        for name in _NAMES:
            found = getattr(Keys("p"), name)
            if not isinstance(found, str):
                found = found(*["x" for _ in signature(found).parameters])
                self.assertIn(":x", found)
                found = found[: found.index(":x") + 1]
            self.assertEqual(f"p{lua_source._constant(name)}", found)

    def test_put_in(self) -> None:
        """All names of a script are put in; the first line says what the prefix is."""
        for script in scripts.SCRIPTS:
            self.assertNotIn(b"key_", re.sub(rb"--.*", b"", script.source), script.name)
            if b"prefix .." in script.source:
                self.assertTrue(script.source.startswith(b"local prefix = ARGV[1]\n"), script.name)
        self.assertIn(b"call('HGET', prefix .. ':device:' .. device.name, 'imei')", scripts.COMMIT.source)

    def test_nested(self) -> None:
        """Files in a tuple are a function within what precedes them, and so on to the end."""
        names = ("checks", "history_rank", "command_states")
        plain = lua_source.assemble(*names).decode()
        first, *nested = (
            lua_source.assemble(names[0], names[1:2], names[2:]).decode().split("return (function()\n")
        )
        self.assertEqual(len(nested), 2)
        self.assertEqual("\n".join([*nested[-1].splitlines()[-2:]]), "end)()\nend)()")
        self.assertEqual(first + "".join(nested).removesuffix("\nend)()\nend)()"), plain)

    def test_unknown_name(self) -> None:
        """A name that `Keys` doesn't have is a mistake in the script."""
        self.assertRaises(AttributeError, lua_source._constant, "nothing")
