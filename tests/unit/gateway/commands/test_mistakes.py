"""Other people's mistakes around commands: floods of invalid ones, and keys of another type."""

import json
import time

from tests.support import wait_until
from tests.support.commands import CommandCase, new_id
from tests.support.web import Api


class MistakeTests(CommandCase):
    def metric(self, name: str) -> float:
        text = Api(self.daemon).fetch("GET", "/metrics").body.decode()
        return next(float(line.split(" ")[1]) for line in text.splitlines() if line.startswith(name + " "))

    def test_a_flood_of_invalid_commands_does_not_fill_the_log(self) -> None:
        """Twenty lines a minute; the others are counted."""
        start = len(self.daemon.log())
        before = self.metric('jt709c_commands_total{state="invalid"}')
        for number in range(300):
            self.client.push(json.dumps({"device": self.device, "command": "unlock", "x": number}))
        wait_until(lambda: self.metric('jt709c_commands_total{state="invalid"}') >= before + 300)
        lines = [line for line in self.daemon.log()[start:].splitlines() if "is invalid" in line]
        self.assertLessEqual(len(lines), 20)
        self.assertGreaterEqual(self.metric("jt709c_unlogged_commands_total"), 280)

    def test_an_intake_list_of_another_type(self) -> None:
        """It is one line, without a traceback, and counted; commands are taken when it is mended."""
        key, start = self.client.key("commands"), len(self.daemon.log())
        before = self.metric("jt709c_intake_errors_total")
        self.client.redis.call("SET", key, "x")
        wait_until(lambda: self.metric("jt709c_intake_errors_total") > before, 20)
        self.client.redis.call("DEL", key)
        command = self.client.command(self.device, "locate")
        self.client.wait(command, "waiting")
        log = self.daemon.log()[start:]
        self.assertEqual(log.count(f"Redis refuses to give out commands from {key}"), 1)
        self.assertNotIn("Traceback", log)

    def test_a_record_of_another_type(self) -> None:
        """The API shows that it can't be read, and the other commands."""
        good, bad = self.client.command(self.device, "locate"), new_id()
        self.client.wait(good, "waiting")
        self.client.redis.call("SET", self.client.key("command", bad), "x")
        self.client.redis.call("ZADD", self.client.key("commands", "recent"), f"{time.time():.3f}", bad)
        api = Api(self.daemon)
        found = {one["id"]: one for one in api.get("/commands").json["commands"]}
        self.assertLessEqual({good, bad}, set(found))
        self.assertEqual((found[bad]["state"], found[bad]["device"]), (None, None))
        self.assertIn("can't be read", found[bad]["reason"])
        self.assertEqual(api.get(f"/commands/{bad}").json["command"], found[bad])
        mine = api.get("/commands", ("device", self.device)).json["commands"]
        self.assertNotIn(bad, [one["id"] for one in mine])
