"""Labels through the API: of one lock, in bulk, searched, and told to open pages."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.label_search import LabelSearch
from jt709c_gateway.redis.labels import Label
from tests.support.acl import GuardedServer
from tests.support.daemon import Daemon
from tests.support.web import FROM_THE_PAGE, ApiCase, Reply, basic, user_line

DEVICES = [str(794_308_010_000 + number) for number in range(6)]


class SearchTests(SynchronousTestCase):
    def test_found(self) -> None:
        """In each field and id, in any case of letters; a group only whole."""
        label = Label("Truck 12", "Nørth", "AB 1", "tall")
        for text in ("truck", "NØRTH", "ab 1", "TALL", "7943", "8672"):
            self.assertTrue(LabelSearch((), (text,)).fits(label, "794308010001", "867284063211238"), text)
        self.assertTrue(LabelSearch(("nørth", "south")).fits(label, "1"))
        for wanted in (LabelSearch(("Nørt",)), LabelSearch((), ("truck", "bus"))):
            self.assertFalse(wanted.fits(label, "1", None), wanted)
        self.assertFalse(LabelSearch(("north",)).fits(None, "1"))


class LabelsCase(ApiCase):
    partitions = 1

    @classmethod
    def setUpClass(cls) -> None:
        super(ApiCase, cls).setUpClass()
        several = cls.partitions > 1
        cls.server = GuardedServer(several=several).start()
        more = ("--partitions", str(cls.partitions)) if several else ()
        cls.daemon = Daemon("--gateway", "gw1", "--web-commands", *more, redis=cls.server.gateway_url)
        users = cls.daemon.directory / "users"
        users.write_text(user_line("anna", "right"))
        cls.daemon._options += ("--web-users", str(users))
        cls.daemon.start()

    def setUp(self) -> None:
        super().setUp()
        self.api.headers = basic("anna", "right")
        self.redis.call("FLUSHDB")
        for number, device in enumerate(DEVICES):
            prefix = self.prefix(device)
            self.redis.call(
                "HSET", f"{prefix}:device:{device}", "seen", "2026-11-22T10:15:00Z", "dialect", "jt709"
            )
            self.redis.call("ZADD", f"{prefix}:devices", 1_764_000_000 + number, device)

    def prefix(self, device: str) -> str:
        from jt709c_gateway.redis.partitions import Partitions

        return Partitions("jt709c", self.partitions).keys_of(device).prefix

    def put(self, device: str, body: object, **headers: Any) -> Reply:
        return self.api.call(
            "PUT", f"/devices/{device}/label", body=body, headers={**FROM_THE_PAGE, **headers}
        )

    def delete(self, device: str) -> Reply:
        return self.api.call("DELETE", f"/devices/{device}/label", headers=FROM_THE_PAGE)

    def rows(self, *query: tuple[str, object]) -> list[str]:
        return [one["device"] for one in self.api.get("/devices", *query).json["devices"]]


class OneLabelTests(LabelsCase):
    def test_written_read_removed(self) -> None:
        """It is in its own place, in the row, and in the details, until it is removed."""
        label = {"name": "Truck 12", "group": "north"}
        self.assertEqual(
            self.put(f"00{DEVICES[0]}", label | {"note": " "}).json, {"device": DEVICES[0], "label": label}
        )
        self.assertEqual(self.api.get(f"/devices/{DEVICES[0]}/label").json["label"], label)
        self.assertEqual(self.api.get(f"/devices/{DEVICES[0]}").json["device"]["label"], label)
        [found] = [one for one in self.api.get("/devices").json["devices"] if one["device"] == DEVICES[0]]
        self.assertEqual(found["label"], label)
        self.assertEqual(self.delete(DEVICES[0]).json, {"device": DEVICES[0]})
        self.assertNotIn("label", self.api.get(f"/devices/{DEVICES[0]}").json["device"])

    def test_refused(self) -> None:
        """Nothing is written, and the answer names the field."""
        reply = self.put(DEVICES[0], {"name": "x" * 65})
        self.assertEqual((reply.status, reply.error["field"]), (400, "name"))
        self.assertEqual(self.put(DEVICES[0], {"name": ""}).status, 400)
        self.assertEqual(self.put(DEVICES[0], {"nmae": "a"}).status, 400)
        self.assertEqual(self.put("5", {"name": "a"}).status, 404)
        self.assertEqual(self.put(DEVICES[0], {"name": "a"}, x_requested_with=None).status, 403)
        self.assertNotIn("label", self.api.get(f"/devices/{DEVICES[0]}").json["device"])

    def test_told_to_open_pages(self) -> None:
        """Within seconds, whatever a page listens to, also when a label has gone."""
        with self.api.listen(("kind", "session")) as listener:
            for label in ({"name": "Truck 12"}, None):
                if label:
                    self.put(DEVICES[1], label)
                else:
                    self.delete(DEVICES[1])
                [told] = listener.next("labels")["labels"]
                self.assertEqual((told["device"], told.get("label")), (DEVICES[1], label))


class ManyLabelsTests(LabelsCase):
    partitions = 4

    def import_csv(self, text: str) -> Reply:
        return self.api.post("/labels", {"csv": text})

    def test_imported(self) -> None:
        """Of all partitions, by IMEI too, and locks that have never reported; other fields stay."""
        imei = "867284063211238"
        self.redis.call("HSET", f"{self.prefix(imei)}:imei", imei, DEVICES[2])
        text = f"device,name,group\n{DEVICES[0]},Truck 0,north\n{DEVICES[1]},Truck 1,south\n"
        text += f"{imei},Truck 2,north\n77,To come,\n"
        self.assertEqual(self.import_csv(text).json, {"changed": 4, "unchanged": 0})
        self.assertEqual(self.import_csv(text).json, {"changed": 0, "unchanged": 4})
        rows = [{"device": DEVICES[0], "plate": "AB 1"}, {"device": "77", "name": None}]
        self.assertEqual(self.api.post("/labels", {"labels": rows}).json, {"changed": 2, "unchanged": 0})
        page = self.api.get("/labels", ("limit", 78)).json
        self.assertEqual((page["total"], page["next"]), (3, None))
        self.assertEqual(page["labels"][0]["label"], {"name": "Truck 0", "group": "north", "plate": "AB 1"})
        self.assertEqual(self.rows(("group", "NORTH")), [DEVICES[2], DEVICES[0]])

    def test_whole_or_nothing(self) -> None:
        """A mistake in the last line, and nothing is written."""
        reply = self.import_csv(f"device,name\n{DEVICES[0]},Truck 0\n{DEVICES[1]},{'x' * 65}\n")
        self.assertEqual((reply.status, reply.error["field"]), (400, "csv"))
        self.assertIn("line 3, column name", reply.error["message"])
        self.assertEqual(self.import_csv(f"device,name\n{DEVICES[0]},a\n00{DEVICES[0]},b\n").status, 400)
        for body in ({}, {"csv": "a", "labels": []}, {"csv": 5}, {"labels": ["x"]}, {"other": 1}):
            self.assertEqual(self.api.post("/labels", body).status, 400, body)
        # Of another limit than any, since an answer may be a second old.
        self.assertEqual(self.api.get("/labels", ("limit", 77)).json["labels"], [])

    def test_searched(self) -> None:
        """By name, plate, group, note and id, page after page."""
        rows = [
            {
                "device": device,
                "name": f"Truck {number}",
                "group": "north" if number % 2 else "south",
                "note": "é",
            }
            for number, device in enumerate(DEVICES)
        ]
        self.api.post("/labels", {"labels": rows})
        self.assertEqual(self.rows(("text", "truck 3")), [DEVICES[3]])
        self.assertEqual(self.rows(("text", "É"), ("text", DEVICES[4][-3:])), [DEVICES[4]])
        self.assertEqual(self.rows(("group", "south"), ("text", "Truck 1")), [])
        found: list[str] = []
        query: list[tuple[str, object]] = [("group", "north"), ("limit", 1)]
        for _ in range(5):
            page = self.api.get("/devices", *query).json
            found += [one["device"] for one in page["devices"]]
            if page["next"] is None:
                break
            query = [*query[:2], ("cursor", page["next"])]
        self.assertEqual(found, [DEVICES[5], DEVICES[3], DEVICES[1]])
        first = self.api.get("/labels", ("group", "north"), ("limit", 2)).json
        self.assertEqual((len(first["labels"]), first["total"], first["next"]), (2, 3, DEVICES[3]))
        rest = self.api.get("/labels", ("group", "north"), ("cursor", first["next"])).json
        self.assertEqual([one["device"] for one in rest["labels"]], [DEVICES[5]])
        self.assert_bad("/devices", "text", "x" * 501, "1 to 500 characters")
