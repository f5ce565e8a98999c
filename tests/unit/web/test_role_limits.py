"""Users with roles at a real gateway: who may do what, to which locks, and since when."""

from pathlib import Path
from typing import Any

from tests.support import wait_until
from tests.support.acl import GuardedServer
from tests.support.commands import CommandClient, new_device
from tests.support.daemon import Daemon
from tests.support.web import Api, ApiCase, Reply, basic, user_line

ROLES = """\
#role vera viewer
#role ben dispatcher
#role dora dispatcher commands=locate,unlock
#role gus dispatcher group=Trucks group="Depot 2"
#role both dispatcher commands=locate group=Trucks
#role anna admin
"""
NAMES = ("vera", "ben", "dora", "gus", "both", "anna", "nils")
USERS = ROLES + "".join(user_line(name, "right") for name in NAMES)


class RoleCase(ApiCase):
    """A gateway with `USERS`, and labels of locks that nobody has heard."""

    path: Path
    options: tuple[str, ...] = ("--web-commands",)

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()
        cls.daemon = Daemon("--gateway", "gw1", *cls.options, redis=cls.server.gateway_url, udp=False)
        cls.path = cls.daemon.directory / "users"
        cls.path.write_text(USERS)
        cls.daemon._options += ("--web-users", str(cls.path))
        cls.daemon.start()

    def setUp(self) -> None:
        super().setUp()
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def user(self, name: str) -> Api:
        return Api(self.daemon, basic(name, "right"))

    def labelled(self, group: str | None) -> str:
        device = new_device()
        if group is not None:
            self.redis.call("HSET", f"jt709c:label:{device}", "group", group)
        return device

    def give(self, name: str, device: str, command: str = "locate", **more: Any) -> Reply:
        return self.user(name).post("/commands", {"device": device, "command": command, **more})

    def refused(self, reply: Reply, *said: str) -> None:
        self.assertEqual(reply.status, 403, reply.body)
        for text in said:
            self.assertIn(text, reply.error["message"])


class LimitTests(RoleCase):
    def test_commands(self) -> None:
        """Each user may give what the role has, and check just that; a refusal says what is missing."""
        device = self.labelled(None)
        allowed = {"vera": (), "ben": ("locate", "restart"), "dora": ("locate",)}
        allowed |= {"anna": ("locate", "restart"), "nils": ("locate", "restart")}
        for name, commands in allowed.items():
            for command in ("locate", "restart"):
                body = {"device": device, "command": command}
                good = command in commands
                checked = self.user(name).post("/commands/check", body).status
                given = self.give(name, device, command).status
                self.assertEqual((checked, given), (200, 202) if good else (403, 403), (name, command))
        self.refused(self.give("vera", device), "vera is a viewer", "the role dispatcher or admin")
        self.refused(
            self.give("dora", device, "restart"), "dora may not give restart: expected locate, unlock"
        )
        given = self.user("anna").get("/commands", ("device", device)).json["commands"]
        self.assertEqual({one["issued_by"] for one in given} & {"web:vera"}, set())

    def test_groups(self) -> None:
        """A dispatcher of some groups sees all locks, and gives commands to those of these groups only."""
        for group, status in (("Trucks", 202), ("Depot 2", 202), ("Vans", 403), (None, 403), ("trucks", 403)):
            device = self.labelled(group)
            self.assertEqual(self.give("gus", device).status, status, group)
            self.assertEqual(self.user("gus").get("/commands", ("device", device)).status, 200)
        self.refused(
            self.give("gus", self.labelled("Vans")), "is in group Vans", "expected a lock of Depot 2, Trucks"
        )
        self.refused(self.give("gus", self.labelled(None)), "is in no group, and gus may not")
        self.assertEqual(self.give("both", self.labelled("Trucks")).status, 202)
        self.refused(self.give("both", self.labelled("Trucks"), "restart"), "may not give restart")
        self.refused(self.give("both", self.labelled("Vans")), "is in group Vans")

    def test_a_label_that_has_changed(self) -> None:
        """The group counts that a lock has at the time of the request."""
        device = self.labelled("Trucks")
        self.assertEqual(self.give("gus", device).status, 202)
        self.redis.call("HSET", f"jt709c:label:{device}", "group", "Vans")
        self.refused(self.give("gus", device), "is in group Vans")

    def test_a_label_that_cannot_be_read(self) -> None:
        """It gives nobody a right, and takes none from those without groups."""
        device = new_device()
        self.redis.call("SET", f"jt709c:label:{device}", "Trucks")
        self.refused(self.give("gus", device), "the label of lock", "can't be read")
        self.assertEqual(self.give("anna", device).status, 202)

    def test_an_imei(self) -> None:
        """A lock that is named by its IMEI has its own group, and the command is for its id."""
        lock = self.lock()
        imei = "868120123456789"
        self.redis.call("HSET", "jt709c:imei", imei, lock.device)
        self.redis.call("HSET", f"jt709c:label:{imei}", "group", "Trucks")
        self.refused(self.give("gus", imei), f"lock {lock.device} is in no group")
        self.redis.call("HSET", f"jt709c:label:{lock.device}", "group", "Trucks")
        reply = self.give("gus", imei, id="by-imei")
        self.assertEqual(reply.status, 202, reply.body)
        wait_until(lambda: self.client.record("by-imei").get("device") == lock.device)
        self.assertEqual(self.give("gus", imei, id="by-imei").status, 200)

    def test_cancel(self) -> None:
        """A dispatcher takes back what he may give, of whomever; and nothing else."""
        truck, van = self.labelled("Trucks"), self.labelled("Vans")
        given = {}
        for device in (truck, van):
            for command in ("locate", "restart"):
                reply = self.give("anna", device, command, id=f"{device}-{command}")
                given[device, command] = reply.json["id"]
                self.client.wait(reply.json["id"], "waiting")
        for name, device, command, good in (
            ("vera", truck, "locate", False),
            ("dora", van, "restart", False),
            ("gus", van, "locate", False),
            ("both", truck, "restart", False),
            ("both", van, "locate", False),
            ("dora", van, "locate", True),
            ("gus", truck, "restart", True),
            ("both", truck, "locate", True),
        ):
            # The lock that a cancel is addressed to makes no difference.
            for addressed in (device, truck):
                target = given[device, command]
                reply = self.give(name, addressed, "cancel", params={"id": target})
                self.assertEqual(reply.status, 202 if good else 403, (name, device, command))
                if good:
                    self.client.wait(target, "cancelled")
        self.assertEqual(self.client.record(given[van, "restart"])["state"], "waiting")
        reply = self.give("gus", truck, "cancel", params={"id": "nobodys"})
        self.refused(reply, "no command nobodys is known")


class RoleTests(RoleCase):
    def test_me(self) -> None:
        """Each user is told the role and its limits; null is no limit."""
        for name, role, commands, groups in (
            ("vera", "viewer", [], []),
            ("ben", "dispatcher", None, None),
            ("dora", "dispatcher", ["locate", "unlock"], None),
            ("gus", "dispatcher", None, ["Depot 2", "Trucks"]),
            ("anna", "admin", None, None),
            ("nils", "admin", None, None),
        ):
            me = self.user(name).get("/me").json
            self.assertEqual(me, {"name": name, "role": role, "commands": commands, "groups": groups})
            self.assertEqual(self.user(name).get("/config").json["commands"], role != "viewer")

    def test_changes(self) -> None:
        """Another role counts at once, and ends the live events of its user; so does the end of a user."""
        self.addCleanup(self.path.write_text, USERS)
        device = self.labelled(None)
        with (
            self.user("ben").listen() as ben,
            self.user("dora").listen(("kind", "lock")) as dora,
            self.user("vera").listen() as vera,
        ):
            self.assertEqual([one.status for one in (ben, dora, vera)], [200] * 3)
            self.assertEqual(self.give("ben", device).status, 202)
            changed = USERS.replace("#role ben dispatcher", "#role ben viewer").replace("vera", "hera")
            self.path.write_text(changed)
            self.refused(self.give("ben", device), "ben is a viewer")
            self.assertEqual(self.user("vera").get("/me").status, 401)
            self.assertTrue(ben.ended())
            self.assertTrue(vera.ended())
            self.client.redis.call("PUBLISH", "jt709c:event:lock:1", '{"id":"x-1","kind":"lock"}')
            self.assertEqual(dora.next("event")["id"], "x-1")

    def test_a_mistake(self) -> None:
        """A file with a mistake changes nothing, and the log names its line."""
        self.addCleanup(self.path.write_text, USERS)
        self.path.write_text(USERS.replace("#role vera viewer", "#role vera adnim"))
        self.assertEqual(self.user("vera").get("/me").json["role"], "viewer")
        self.assertIn("line 1: 'adnim' is no role", self.daemon.log())

    def test_logging_out(self) -> None:
        """The user that browsers keep after logging out is accepted at /logout alone, and no failed login."""
        out = basic("logged out", "x")
        for headers, status in ((out, 200), ({}, 401), (basic("anna", "right"), 401)):
            reply = Api(self.daemon, headers).fetch("GET", "/logout")
            self.assertEqual((reply.status, "www-authenticate" in reply.headers), (status, status == 401))
            self.assertIn(b"You are logged out", reply.body)
            self.assertEqual(Api(self.daemon, headers).fetch("GET", "/logged-out").status, 200)
        for _ in range(30):
            self.assertEqual(Api(self.daemon, out).get("/me").status, 401)
        self.assertEqual(self.user("anna").get("/me").status, 200)


class ReadOnlyTests(RoleCase):
    options = ()

    def test_without_web_commands(self) -> None:
        """Everybody only reads, whatever the role."""
        for name in ("anna", "vera"):
            self.assertEqual(self.user(name).get("/me").json["role"], "viewer")
            self.refused(self.give(name, "1"), "expected --web-commands")
