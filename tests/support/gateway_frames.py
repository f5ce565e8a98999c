"""Frames for a gateway over a fake Redis, sound and broken."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.protocol.jt808 import pack
from tests.support.committer import Fleet
from tests.vectors import binary, location

#: A lock event with a static password in it, as item 0x0B: accepted.
PASSWORD_EVENT = b"\x0b\x08\x01" + b"427819" + b"\x00"


def heartbeat(serial: int = 1) -> bytes:
    return binary(0x0002, serial=serial)


def report(serial: int = 1, **changes: Any) -> bytes:
    return binary(0x0200, location(**changes), serial)


def impossible_date(serial: int = 1) -> bytes:
    payload = bytearray(report(serial)[1:-2])
    payload[12 + 22 : 12 + 28] = b"\x99" * 6
    return pack(bytes(payload))


def broken(serial: int = 1) -> bytes:
    frame = bytearray(report(serial))
    frame[25] ^= 0x01
    return bytes(frame)


class FrameCase(SynchronousTestCase):
    policy = Policy()
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.fleet = Fleet(self.policy, **self.options)
        self.gateway = self.fleet.gateway
        self.link = self.fleet.link()

    def malformed(self) -> list[Any]:
        return [content for content in self.fleet.committed if content[0] == ""]
