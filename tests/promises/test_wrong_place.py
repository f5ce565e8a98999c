"""A password in a wrong field of a command is shown nowhere."""

import json
from typing import Any

from tests.support import wait_until
from tests.support.commands import PASSWORD, CommandCase, new_id


class WrongPlaceTests(CommandCase):
    def test_a_password_in_a_wrong_place_is_told_nowhere(self) -> None:
        """Secrets in any wrong field of a command are in no event, record, list or log."""
        wrong = "S3CR3T"
        for fields in (
            {"params": {"method": wrong, "password": "static"}},
            {"params": {wrong: "password"}},
            {"params": {"password": PASSWORD, wrong.lower(): 1}},
            {"params": wrong},
            {"params": [wrong]},
            {"ttl": wrong},
            {"timeout": {"s": wrong}},
            {"command": wrong},
            {"command": wrong.lower()},
            {"command": "query", "params": {"what": wrong}},
            {"command": "set_parameters", "params": {"parameters": {"0013": {wrong: wrong}}}},
            {"command": "set_parameters", "params": {"parameters": {wrong: 1}}},
            {"command": "cancel", "params": {"id": wrong}},
            {"command": "cancel", "params": {"id": [wrong]}},
            {"device": wrong},
            {"device": [wrong]},
            {"id": wrong + "!"},
            {"reply_to": wrong + "!"},
            {"issued_by": wrong + "\n"},
            {"key": wrong, "mac": wrong, "order": wrong},
            {wrong: 1},
            {wrong.lower(): {wrong: [wrong]}},
        ):
            with self.subTest(fields=fields):
                self.assert_not_told(wrong, fields)

    def test_numbers_in_a_wrong_place_are_told_nowhere(self) -> None:
        """The same for digits, as text and as numbers; an unknown device is not shown either."""
        for fields in (
            {"ttl": 7654321},
            {"timeout": "7654321"},
            {"device": "7654321", "params": {"password": self.device}},
            {"params": {"method": 7654321}},
            {"params": {"7654321": 1}},
            {"id": 7654321},
            {"reply_to": 7654321},
            {"command": 7654321},
            {"command": "query", "params": {"what": 7654321}},
        ):
            with self.subTest(fields=fields):
                self.assert_not_told("7654321", fields)

    def assert_not_told(self, wrong: str, fields: dict[str, Any]) -> None:
        command, start = new_id(), len(self.daemon.log())
        seen = len(self.client.events("command"))
        given = {"id": command, "device": self.device, "command": "unlock", "params": {}, **fields}
        before = self.client.redis.call("XLEN", self.client.key("events"))
        self.client.push(json.dumps(given).encode())
        wait_until(lambda: self.client.redis.call("XLEN", self.client.key("events")) > before)
        wait_until(lambda: not self.client.redis.call("LLEN", self.client.key("commands")))
        told = [
            self.daemon.log()[start:],
            json.dumps(self.client.events("command")[seen:]),
            str(self.client.redis.call("LRANGE", self.client.key("commands", "invalid"), 0, -1)),
            str(self.client.redis.call("HGETALL", self.client.key("command", command))),
            str(self.client.redis.call("KEYS", "*")),
        ]
        for text in told:
            self.assertNotIn(wrong.lower(), text.lower())
