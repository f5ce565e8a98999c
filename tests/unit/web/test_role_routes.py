"""Every route that changes something, with every role, as the description of the API has them."""

import json

from tests.support.web import DESCRIPTION, Reply, described, operations
from tests.unit.web.test_openapi import SAMPLES
from tests.unit.web.test_role_limits import RoleCase

#: The role that each route needs which is no GET, by the beginning of its path. None: it only reads.
REQUIRED = {
    "/explain": None,
    "/commands": "dispatcher",
    "/batches": "dispatcher",
    "/labels": "admin",
    "/devices/{id}/label": "admin",
    "/areas": "admin",
}
#: Users of `RoleCase`, and the roles that they fulfil.
FULFILLED: dict[str, tuple[str | None, ...]] = {
    "vera": (None,),
    "ben": (None, "dispatcher"),
    "anna": (None, "dispatcher", "admin"),
    "nils": (None, "dispatcher", "admin"),
}
WRITING = [one for one in operations() if one[0] != "GET"]


def required(path: str) -> str | None:
    """The role for a path; KeyError for one that nobody has thought of."""
    start = max((one for one in REQUIRED if path == one or path.startswith(f"{one}/")), key=len, default=path)
    return REQUIRED[start]


class RouteTests(RoleCase):
    def ask(self, user: str, method: str, path: str, *, from_the_page: bool = True) -> Reply:
        sample, body, _ = SAMPLES[method, path]
        for name, value in (("{device}", self.device), ("{command}", "nobodys")):
            sample = sample.replace(name, value)
        headers = {"x-requested-with": "jt709c" if from_the_page else None}
        if body is not None:
            headers["content-type"] = "application/json"
        data = None if body is None else json.dumps(body).replace("{device}", self.device).encode()
        return self.user(user).call(method, sample.partition("?")[0], (), data, headers)

    def setUp(self) -> None:
        super().setUp()
        self.device = self.labelled("Trucks")

    def test_every_route_with_every_role(self) -> None:
        """Each role gets what it may, and a 403 with a reason for all else; other sites get neither."""
        self.assertGreaterEqual(len(WRITING), 6)
        for method, path in WRITING:
            role = required(path)
            for user, fulfilled in FULFILLED.items():
                reply = self.ask(user, method, path)
                case = (user, method, path, reply.status, reply.body[:200])
                if role in fulfilled:
                    self.assertNotIn(reply.status, (401, 403), case)
                else:
                    self.assertEqual(reply.status, 403, case)
                    self.assertIn(f"{user} is a ", reply.error["message"])
                    self.assertIn(f"the role {role}", reply.error["message"])
            if role is not None:
                foreign = self.ask("anna", method, path, from_the_page=False)
                self.assertEqual((foreign.status, foreign.error["field"]), (403, "x-requested-with"), path)

    def test_described(self) -> None:
        """The description names the role that each route needs, and needs none to read."""
        for method, path in operations():
            operation = described(method, path)[1]
            role = None if method == "GET" else required(path)
            self.assertEqual(operation.get("x-required-role"), role, (method, path))
            if role is not None:
                self.assertIn(f"the role `{role}`", operation["description"])
        self.assertIn("basic", DESCRIPTION["components"]["securitySchemes"])
