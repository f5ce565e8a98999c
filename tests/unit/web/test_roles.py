"""What each role may do."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web.roles import Grant, Right, Role, User, refusal
from jt709c_gateway.web.router import Route


async def _handler(_: object) -> None:
    return None


class RefusalTests(SynchronousTestCase):
    def test_each_right(self) -> None:
        """Everybody reads; dispatchers and admins give commands; only admins change what all share."""
        allowed = {
            role: [right for right in Right if refusal(User("anna", Grant(role)), right, True) is None]
            for role in Role
        }
        self.assertEqual(
            allowed,
            {
                Role.VIEWER: [Right.READ],
                Role.DISPATCHER: [Right.READ, Right.COMMAND],
                Role.ADMIN: [Right.READ, Right.COMMAND, Right.ADMIN],
            },
        )

    def test_reasons(self) -> None:
        """A refusal names the user, the role, and what is missing."""
        viewer, dispatcher = (User("anna", Grant(role)) for role in (Role.VIEWER, Role.DISPATCHER))
        for user, right, writable, said in (
            (
                viewer,
                Right.COMMAND,
                True,
                "anna is a viewer, who only looks: expected the role dispatcher or",
            ),
            (viewer, Right.ADMIN, True, "anna is a viewer: expected the role admin in --web-users"),
            (dispatcher, Right.ADMIN, True, "anna is a dispatcher: expected the role admin"),
            (dispatcher, Right.COMMAND, False, "commands can't be given here: expected --web-commands"),
            (None, Right.ADMIN, True, "nothing can be changed here: expected --web-commands, and users"),
        ):
            self.assertIn(said, str(refusal(user, right, writable)))

    def test_a_route_that_names_no_right(self) -> None:
        """It is an admin's, unless it only reads."""
        rights = {
            method: Route(method, "/x", _handler, {}).right for method in ("GET", "POST", "PUT", "DELETE")
        }
        self.assertEqual(rights.pop("GET"), Right.READ)
        self.assertEqual(set(rights.values()), {Right.ADMIN})

    def test_commands(self) -> None:
        """A dispatcher gives the commands that are named, or all; a viewer none."""
        some = Grant(Role.DISPATCHER, frozenset({"unlock"}))
        self.assertEqual([some.covers(name) for name in ("unlock", "seal")], [True, False])
        self.assertTrue(Grant(Role.DISPATCHER).covers("seal"))
        self.assertFalse(Grant(Role.VIEWER).covers("seal"))

    def test_commands_of_sublocks(self) -> None:
        """Who may unlock a sub-lock may take that back: in the record it has the name for the master."""
        some = Grant(Role.DISPATCHER, frozenset({"unlock"}))
        self.assertTrue(some.covers_carried_out("sublock_unlock", "E03B600001"))
        self.assertFalse(some.covers_carried_out("sublock_unlock", None))
        self.assertFalse(some.covers("sublock_unlock"))
