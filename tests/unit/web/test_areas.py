"""Areas in the API, and commands with conditions."""

from typing import Any

from tests.support.acl import GuardedServer
from tests.support.commands import new_id
from tests.support.daemon import Daemon
from tests.support.web import FROM_THE_PAGE, ApiCase, basic, user_line

DEPOT = {"circle": {"center": [51.5, -0.12], "radius_m": 200.0}}
SQUARE = {"polygon": [[51.0, 0.0], [51.0, 1.0], [52.0, 1.0]]}


class AreaApiTests(ApiCase):
    @classmethod
    def setUpClass(cls) -> None:
        super(ApiCase, cls).setUpClass()
        cls.server = GuardedServer().start()
        cls.daemon = Daemon("--gateway", "gw1", "--web-commands", redis=cls.server.gateway_url)
        users = cls.daemon.directory / "users"
        users.write_text(user_line("anna", "right"))
        cls.daemon._options += ("--web-users", str(users))
        cls.daemon.start()

    def setUp(self) -> None:
        super().setUp()
        self.api.headers = basic("anna", "right")
        for name in self.redis.call("SMEMBERS", "jt709c:areas"):
            self.redis.call("DEL", b"jt709c:area:" + name)
        self.redis.call("DEL", "jt709c:areas")

    def put(self, name: str, body: object) -> tuple[int, Any]:
        reply = self.api.call("PUT", f"/areas/{name}", body=body, headers=FROM_THE_PAGE)
        return reply.status, reply.json

    def test_areas(self) -> None:
        """Defined, replaced, shown, listed and removed."""
        self.assertEqual(self.put("depot", SQUARE), (200, {"name": "depot", "area": SQUARE}))
        self.assertEqual(self.put("depot", DEPOT), (200, {"name": "depot", "area": DEPOT}))
        self.assertEqual(self.api.get("/areas").json, {"areas": ["depot"]})
        self.assertEqual(self.api.get("/areas/depot").json, {"name": "depot", "area": DEPOT})
        removed = self.api.call("DELETE", "/areas/depot", headers=FROM_THE_PAGE)
        self.assertEqual((removed.status, removed.json), (200, {"name": "depot"}))
        self.assertEqual(self.api.get("/areas").json, {"areas": []})
        self.assertEqual(self.api.get("/areas/depot").status, 404)
        self.assertEqual(self.api.call("DELETE", "/areas/depot", headers=FROM_THE_PAGE).status, 404)

    def test_mistakes(self) -> None:
        """An error names the field, and nothing is defined."""
        for body, field in (
            ({}, None),
            ({"circle": {"center": [1, 2]}}, "circle"),
            ({"polygon": [[1]]}, "polygon[0]"),
        ):
            status, answer = self.put("depot", body)
            self.assertEqual((status, answer["error"].get("field")), (400, field))
        self.assertEqual(self.api.call("PUT", "/areas/depot", body=DEPOT).status, 403)
        self.assertEqual(self.api.get("/areas").json, {"areas": []})

    def test_commands(self) -> None:
        """Conditions are checked before a command is accepted, and shown with it."""
        lock = self.lock()
        body = {"device": lock.device, "command": "locate", "id": new_id(), "only_within": {"area": "depot"}}
        refused = self.api.post("/commands", body)
        self.assertEqual((refused.status, refused.error["field"]), (400, "only_within"))
        self.assertIn("area depot is not defined", refused.error["message"])
        self.put("depot", DEPOT)
        self.assertEqual(self.api.post("/commands/check", body).status, 200)
        self.assertEqual(self.api.post("/commands", body).status, 202)
