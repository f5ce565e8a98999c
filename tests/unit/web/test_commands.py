"""The records of commands, the catalogue, and explained frames, as the API serves them."""

from typing import Any

from tests.support import wait_until
from tests.support.commands import PASSWORD, CommandClient, new_device, new_id
from tests.support.masters import LORA, OPEN, FakeMaster, new_master, new_sublock
from tests.support.web import ApiCase


class CommandTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def test_command_and_its_steps(self) -> None:
        """A command as its events tell of it, without its secrets; with what became of it last, and when."""
        lock = self.lock()
        command = self.client.unlock(lock.device, issued_by="dispatch")
        lock.say_yes(lock.next_unlock())
        lock.open()
        self.client.wait(command, "confirmed")
        answer = self.api.get(f"/commands/{command}")
        self.assertNotIn(PASSWORD.encode(), answer.body)
        found = answer.json["command"]
        last = [event["data"] for event in self.client.events("command", lock.device)][-1]
        self.assertEqual({name: found[name] for name in last}, last)
        self.assertEqual((found["issued_by"], found["params"]), ("dispatch", {"password": "******"}))
        self.assertEqual(found["time"], found["ended_at"] or found["confirmed_at"])
        listed = self.api.get("/commands", ("limit", 1)).json
        self.assertEqual(listed["commands"], [found])

    def test_newest_first(self) -> None:
        """Commands in the order in which they were taken in, all kinds of them, page after page."""
        device, other = new_device(), new_device()
        given = []
        for number in range(12):
            command = self.client.command(device if number % 3 else other, "locate", ttl=600)
            self.client.wait(command, "waiting")
            given.append(command)
        for known, count in ((device, 8), (other, 4)):
            for limit in (1, 3, 1000):
                found = self.pages(("device", known), ("limit", limit))
                self.assertEqual(
                    found, [one for one in given[::-1] if self.client.record(one)["device"] == known]
                )
                self.assertEqual(len(found), count)
        self.assertEqual(self.pages(("limit", 5))[:12], given[::-1])
        taken_back = self.client.command(device, "cancel", {"id": given[1]})
        self.client.wait_end(taken_back)
        self.assertEqual(self.pages(("state", "cancelled"), ("device", device)), [given[1]])
        self.assertEqual(self.pages(("device", device), ("limit", 50))[0], taken_back)
        invalid = self.client.command(device, "unlok")
        self.client.wait(invalid, "invalid")
        self.assertEqual(
            self.pages(("state", "invalid"), ("state", "done"), ("device", device)), [invalid, taken_back]
        )

    def test_commands_of_a_batch(self) -> None:
        device = new_device()
        given = [self.client.command(device, "locate", ttl=600, batch=name) for name in ("b-1", "b-2", "b-1")]
        for command in given:
            self.client.wait(command, "waiting")
        self.assertEqual(self.pages(("batch", "b-1"), ("limit", 1)), [given[2], given[0]])
        self.assertEqual(self.pages(("batch", "b-2"), ("state", "done")), [])
        self.assertEqual(self.api.get(f"/commands/{given[1]}").json["command"]["batch"], "b-2")
        self.assertEqual(self.api.get("/commands", ("batch", "x" * 41)).status, 400)

    def pages(self, *query: tuple[str, object]) -> list[str]:
        answer = self.api.get("/commands", *query).json
        found = [one["id"] for one in answer["commands"]]
        while answer["next"] is not None:
            answer = self.api.get("/commands", *query, ("cursor", answer["next"])).json
            found += [one["id"] for one in answer["commands"]]
        return found

    def test_unknown(self) -> None:
        """A command that nobody has given, and what can't be the id of one."""
        self.assertEqual(self.api.get("/commands/nobody-gave-it").status, 404)
        self.assertEqual(self.api.get("/commands/a b").status, 400)

    def test_forgotten(self) -> None:
        """One whose record has expired is left out."""
        command, kept = (self.client.command(new_device(), "locate", ttl=600) for _ in range(2))
        self.client.wait(command, "waiting")
        self.client.wait(kept, "waiting")
        self.redis.call("DEL", f"jt709c:command:{command}")
        found = self.pages()
        self.assertIn(kept, found)
        self.assertNotIn(command, found)

    def test_of_a_sublock(self) -> None:
        """By its id only the commands for it are listed, by its master's those for both."""
        master, sublock = new_device(), new_sublock()
        self.redis.call("HSET", f"jt709c:peripheral:{sublock}", "device", master, "type", "sublock")
        self.redis.call("HSET", f"jt709c:device:{master}", "dialect", "jt701")
        commands = [
            self.client.command(sublock, "unlock", ttl=600),
            self.client.command(master, "restart", ttl=600),
        ]
        for command in commands:
            self.client.wait(command, "waiting")
        self.assertEqual(self.pages(("device", sublock)), commands[:1])
        self.assertEqual(self.pages(("device", master)), commands[::-1])

    def test_capped(self) -> None:
        """Of the list of commands no more is kept than is said."""
        key = "jt709c:commands:recent"
        members = [part for number in range(10_050) for part in (number, f"filler-{number}")]
        self.redis.call("ZADD", key, *members)
        self.addCleanup(self.redis.call, "ZREMRANGEBYSCORE", key, "-inf", 20_000)
        for command, params in (("locate", {}), ("clear_lockout", {})):
            command = self.client.command(new_device(), command, params, id=new_id(), ttl=600)
            self.client.wait(command, "waiting", "done")
            self.assertEqual(self.redis.call("ZCARD", key), 10_000)
            self.assertIsNotNone(self.redis.call("ZSCORE", key, command))


class CatalogueTests(ApiCase):
    def commands(self, *query: tuple[str, object]) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.api.get("/catalogue", *query).json["commands"]}

    def test_all(self) -> None:
        """Every command that some profile has, with what it takes; raw bytes only where they are allowed."""
        found = self.commands()
        self.assertEqual(found["unlock"]["aliases"], ["unseal"])
        self.assertTrue(found["unlock"]["physical"])
        self.assertFalse(found["locate"]["physical"])
        password = next(one for one in found["unlock"]["params"] if one["name"] == "password")
        self.assertEqual((password["secret"], password["default"]), (True, None))
        method = next(one for one in found["unlock"]["params"] if one["name"] == "method")
        self.assertEqual(method["choices"], ["static", "dynamic"])
        [target] = found["cancel"]["params"]
        self.assertEqual((target["name"], target["required"]), ("id", True))
        self.assertNotIn("raw", found)

    def test_of_a_lock(self) -> None:
        """Only what its profile has."""
        lock = self.lock()
        answer = self.api.get("/catalogue", ("device", lock.device)).json
        self.assertEqual(answer["profile"], "jt709")
        found = self.commands(("device", lock.device))
        self.assertLess(set(found), set(self.commands()))
        self.assertNotIn("cards_add", found)
        profiles = {form["profile"] for one in found.values() for form in one["forms"]}
        self.assertEqual(profiles, {"jt709"})

    def test_of_a_sublock(self) -> None:
        """A sub-lock can be opened, by its master and without a password; a sensor takes no command."""
        master = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(master.close)
        sublock, sensor = new_sublock(), new_sublock()
        master.hear(sublock, LORA, OPEN)
        wait_until(lambda: list(self.commands(("device", sublock))) == ["unlock"])
        unlock = self.commands(("device", sublock))["unlock"]
        self.assertEqual([one["name"] for one in unlock["params"]], ["minutes"])
        self.assertEqual([form["params"] for form in unlock["forms"]], [["minutes"]])
        self.assertEqual((unlock["physical"], unlock["provenance"]), (True, "documented"))
        key = f"jt709c:peripheral:{sensor}"
        self.redis.call("HSET", key, "device", master.device, "type", "jt126")
        self.addCleanup(self.redis.call, "DEL", key)
        self.assertEqual(self.commands(("device", sensor)), {})

    def test_of_an_unknown_lock(self) -> None:
        """All commands: what it speaks isn't known."""
        answer = self.api.get("/catalogue", ("device", "5")).json
        self.assertIsNone(answer["profile"])
        self.assertEqual(set(self.commands(("device", "5"))), set(self.commands()))


class ExplainTests(ApiCase):
    HEARTBEAT = "7e0002000308155885891510deead3ce647e"

    def test_frames(self) -> None:
        """Every byte of a frame, given as hex in any form, or of a sentence, asked for in either way."""
        for text in (self.HEARTBEAT, self.HEARTBEAT.upper(), " ".join(self.HEARTBEAT), f"0x{self.HEARTBEAT}"):
            found = self.api.get("/explain", ("frame", text)).json["frames"]
            self.assertEqual([one["title"] for one in found], ["heartbeat"])
            self.assertEqual("".join(one["raw"] for one in found[0]["fields"]), self.HEARTBEAT)
            self.assertEqual(self.api.post("/explain", {"frame": text}).json["frames"], found)
        sentence = self.api.get("/explain", ("frame", "(794308010679,1,001,BASE,2,TIME)")).json["frames"]
        self.assertEqual(len(sentence), 1)
        broken = self.api.get("/explain", ("frame", self.HEARTBEAT[:-4] + "007e")).json["frames"]
        self.assertTrue(broken[0]["broken"])

    def test_passwords(self) -> None:
        """A password in a frame is masked."""
        lock = self.lock()
        frame = lock.location(bytes([0x0B, 0x08, 0x01]) + PASSWORD.encode() + b"\x00").hex()
        for reply in (
            self.api.get("/explain", ("frame", frame)),
            self.api.post("/explain", {"frame": frame}),
        ):
            self.assertNotIn(PASSWORD.encode().hex().encode(), reply.body)
            self.assertNotIn(PASSWORD.encode(), reply.body)
        down = self.api.get("/explain", ("frame", f"(1,1,001,ELOCK,1,1,{PASSWORD})"))
        self.assertNotIn(PASSWORD.encode(), down.body)

    def test_mistakes(self) -> None:
        """What is no frame is refused without being repeated."""
        for text, why in (
            (None, "missing"),
            ("", "missing"),
            (PASSWORD + "g", "not hex"),
            ("7e0", "odd number"),
        ):
            reply = self.api.get("/explain", *([] if text is None else [("frame", text)]))
            self.assertEqual((reply.status, reply.error["field"]), (400, "frame"))
            self.assertIn(why, reply.error["message"])
            self.assertNotIn(PASSWORD, reply.error["message"])
        long = "7e" * 4097
        self.assertIn("8194 characters", self.api.post("/explain", {"frame": long}).error["message"])
        self.assertIn("unknown field 2", self.api.post("/explain", {"frame": "7e", "x": 1}).error["message"])
        self.assertEqual(self.api.post("/explain", ["7e"]).status, 400)
        self.assertEqual(
            self.api.call("POST", "/explain", body=b"{", headers={"content-type": "application/json"}).status,
            400,
        )
        self.assertEqual(
            self.api.call("POST", "/explain", body=b"{}", headers={"content-type": "text/plain"}).status, 415
        )
        self.assertEqual(self.api.post("/explain", {"frame": "7e" * 40_000}).status, 413)
