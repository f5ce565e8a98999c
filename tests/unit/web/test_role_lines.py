"""Roles in the file of users."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.web.basic_auth import BasicAuth
from jt709c_gateway.web.htpasswd import UserFile, UsersError, read_users
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.roles import Grant, Role
from tests.support import temporary_path
from tests.support.web import basic, user_line

ANNA, BEN, CARL = (user_line(name, "right") for name in ("anna", "ben", "carl"))
TRUCKS = '#role ben dispatcher commands=unlock,lock group=Trucks group="Depot 2, east"\n'


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(temporary_path(self))

    def read(self, text: str) -> UserFile:
        self.path.write_text(text)
        return read_users(self.path)

    def refused(self, text: str) -> str:
        return str(self.assertRaises(UsersError, self.read, text))


class RoleLineTests(FileCase):
    def grants(self, text: str) -> dict[str, Grant]:
        return {name: user.grant for name, user in self.read(text).users.items()}

    def test_without(self) -> None:
        """A user of a file without roles may do everything."""
        self.assertEqual(self.grants(f"# night shift\n{ANNA}"), {"anna": Grant()})
        self.assertEqual(Grant().role, Role.ADMIN)

    def test_roles(self) -> None:
        """Each user has the role of his line; a dispatcher has its commands, aliases resolved, and groups."""
        found = self.grants(f"#role anna viewer\n# Role carl admin\n{TRUCKS}{ANNA}{BEN}{CARL}")
        limits = (frozenset({"unlock", "seal"}), frozenset({"Trucks", "Depot 2, east"}))
        self.assertEqual(
            found,
            {"anna": Grant(Role.VIEWER), "ben": Grant(Role.DISPATCHER, *limits), "carl": Grant(Role.ADMIN)},
        )

    def test_several_lines(self) -> None:
        """The lines of a dispatcher add up, and a line without limits takes none away."""
        lines = "#role ben dispatcher group=Trucks\n#role ben dispatcher\n#role ben dispatcher group=Vans\n"
        found = self.grants(lines + BEN)["ben"]
        self.assertEqual((found.commands, found.groups), (frozenset(), frozenset({"Trucks", "Vans"})))

    def test_default(self) -> None:
        """`*` is the role of all that have no line."""
        found = self.grants(f"#role * viewer\n#role ben admin\n{ANNA}{BEN}")
        self.assertEqual([one.role for one in found.values()], [Role.VIEWER, Role.ADMIN])

    def test_mistakes(self) -> None:
        """A mistake in a role is refused with its line, since it would else pass as a comment."""
        for text, said in (
            ("#role anna", "line 1: expected #role NAME viewer"),
            ("# roles\n# role: anna viewer", "line 2: 'anna' is no role"),
            ("#role anna boss", "line 1: 'boss' is no role; expected viewer, dispatcher, admin"),
            ("#ROLE anna Viewer", "'Viewer' is no role"),
            ("#role anna viewer commands=unlock", "viewer has no limits; expected commands and groups of a"),
            ("#role anna admin group=Trucks", "admin has no limits"),
            ("#role anna dispatcher unlock", "'unlock' has no meaning here; expected commands=… or group=…"),
            ("#role anna dispatcher groups=Trucks", "'groups=Trucks' has no meaning here"),
            ("#role anna dispatcher commands=", "'' is no command"),
            ("#role anna dispatcher commands=unlock;seal", "'unlock;seal' is no command"),
            ("#role anna dispatcher group=", "a group of 0 characters"),
            (f"#role anna dispatcher group={'x' * 65}", "a group of 65 characters; expected 1 to 64"),
            ('#role anna dispatcher group="Depot', "a quotation mark without its other"),
            ("#role anna viewer\n#role anna admin", "line 2: anna is a viewer already"),
            (f"#role anna dispatcher {'group=Trucks ' * 20}", "has 281 bytes; expected at most 255"),
        ):
            self.assertIn(said, self.refused(f"{text}\n{ANNA}"), text)

    def test_place(self) -> None:
        """A role stands above its user, so that the first part of a file gives no more than the whole."""
        self.assertIn("line 2: a role below its user anna", self.refused(f"{ANNA}#role anna viewer\n"))
        self.assertIn("line 2: a role for all users", self.refused(f"{ANNA}#role * viewer\n{BEN}"))
        self.read(f"{ANNA}#role ben viewer\n{BEN}")

    def test_fields_behind_the_hash(self) -> None:
        """They are refused: htpasswd drops them, and their user would have every right."""
        said = self.refused(f"{ANNA.strip()}:viewer\n")
        self.assertIn("line 1: there is more behind the hash of anna; expected a line #role anna", said)
        self.assertNotIn("$", said)

    def test_doubts(self) -> None:
        """What grants nothing is no mistake, and named with its line."""
        found = self.read(f"#role carl admin\n#role anna dispatcher commands=unlok,unlock\n{ANNA}{BEN}")
        self.assertEqual(
            found.doubts({"unlock"}),
            [
                "line 1: there is no user carl; the role grants nothing",
                "line 2: unlok is a command of no profile; nobody can give it",
            ],
        )
        self.assertEqual(found.without_a_line(), ["ben"])
        self.assertEqual(self.read(f"#role * viewer\n{ANNA}").without_a_line(), [])


class HtpasswdTests(FileCase):
    """Apache's own program edits the file."""

    def htpasswd(self, *arguments: str) -> None:
        program = shutil.which("htpasswd")
        if program is None:
            self.skipTest("needs htpasswd: apt-get install apache2-utils")
        subprocess.run([program, *arguments], check=True, capture_output=True)

    def test_roles_stay(self) -> None:
        """A changed password, a new user and a removed one leave all roles as they are."""
        longest = "#role ben dispatcher group=" + "x" * 64
        longest += (255 - len(longest)) * " "
        before = self.read(f"# night shift\n#role * viewer\n{TRUCKS}{longest}\n{ANNA}\n{BEN}")
        self.htpasswd("-bBC5", str(self.path), "ben", "new")
        self.htpasswd("-bBC5", str(self.path), "carl", "new")
        self.htpasswd("-D", str(self.path), "anna")
        after = read_users(self.path)
        self.assertEqual(set(after.users), {"ben", "carl"})
        self.assertEqual(after.users["ben"].grant, before.users["ben"].grant)
        self.assertNotEqual(after.users["ben"].hash, before.users["ben"].hash)
        self.assertEqual(after.users["carl"].role, Role.VIEWER)
        self.assertEqual(after.doubts({"unlock", "seal"}), [])


class ReloadTests(TestCase):
    """The file of users as it changes."""

    def setUp(self) -> None:
        self.path = Path(temporary_path(self))
        self.path.write_text(f"#role anna dispatcher\n{ANNA}")
        self.users = BasicAuth(
            Clock(), read_users(self.path), {"unlock"}, lambda password, _: password == b"right"
        )
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    async def role(self) -> Role:
        header = basic("anna", "right")["authorization"].encode()
        return (await self.users.authenticate(header, "192.0.2.1")).role

    def said(self) -> list[str]:
        return [str(one.get("doubt") or one.get("reason") or one.get("names")) for one in self.logged]

    async def test_role(self) -> None:
        """A role counts from the next request on; a file with a mistake changes nothing."""
        self.assertEqual(await self.role(), Role.DISPATCHER)
        self.path.write_text(f"#role anna viewer\n{ANNA}")
        self.assertEqual(await self.role(), Role.VIEWER)
        self.path.write_text(f"#role anna adnim\n{ANNA}")
        self.assertEqual(await self.role(), Role.VIEWER)
        self.assertIn("line 1: 'adnim' is no role", self.said()[-1])
        self.path.write_text(f"#role anna admin\n{ANNA}")
        self.assertEqual(await self.role(), Role.ADMIN)

    async def test_current(self) -> None:
        """A user is the same until password or role changes, or there is no such user any more."""
        header = basic("anna", "right")["authorization"].encode()
        for changed in (f"#role anna viewer\n{ANNA}", user_line("anna", "right"), BEN):
            user = await self.users.authenticate(header, "192.0.2.1")
            self.path.write_text(f"# as before\n{self.path.read_text()}")
            self.assertTrue(self.users.is_current(user))
            self.path.write_text(changed)
            self.assertFalse(self.users.is_current(user))
        with self.assertRaises(ApiError):
            await self.role()

    async def test_log(self) -> None:
        """The log names what grants nothing, and who has every right for want of a role."""
        self.path.write_text(f"#role dora admin\n#role anna dispatcher commands=unlok\n{ANNA}{BEN}{CARL}")
        await self.role()
        *_, user, command, names = self.said()
        self.assertIn("line 1: there is no user dora", user)
        self.assertIn("line 2: unlok is a command of no profile", command)
        self.assertEqual(names, "ben, carl")
