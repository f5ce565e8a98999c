"""Sessions that datagrams bring, and reports in nobody's session: the commit script on a real server."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.commit_records import (
    CommitRecord,
    DeviceState,
    EventsRecord,
    OfferSession,
    OpenSession,
)
from jt709c_gateway.redis.keys import Keys
from tests.support import key_prefix, shared_server
from tests.support.committer import Script

DEVICE = "794308010679"
REPORT, OTHER = "0123456789abcdef", "fedcba9876543210"


class OfferCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = shared_server().client()
        self.addCleanup(self.client.close)
        self.keys = Keys(key_prefix())
        self.script = Script(self.client, self.keys.prefix)

    def commit(self, *records: CommitRecord, gateway: str = "gw1") -> Any:
        return self.script.commit(list(records), gateway)

    def session(self, kind: type[Any], token: str, transport: str, **more: str) -> EventsRecord:
        """The record with which a session opens, or is offered."""
        told = [("session", '{"kind":"session","told":"online"}', '{"kind":"session","told":"replaced"}')]
        fields = (
            "gateway",
            token.partition("/")[0],
            "transport",
            transport,
            "peer",
            "192.0.2.7:1",
            "since",
            "",
        )
        change = kind(token=token, ttl=900, fields=fields, **more)
        return EventsRecord(device=DEVICE, seen_at=1.0, events=told, session=change)

    def offer(self, token: str, report: str = "") -> Any:
        """What comes of offering a session; its errors by the number of the record."""
        reply = self.commit(
            self.session(OfferSession, token, "udp", report=report), gateway=token.partition("/")[0]
        )
        return reply if isinstance(reply, int) else dict(zip(reply[1::2], reply[2::2], strict=True))

    def report(self, fingerprint: str, asked: bool = False) -> EventsRecord:
        """The record of a guest's report."""
        told = [("unknown", '{"kind":"unknown"}')]
        return EventsRecord(
            device=DEVICE,
            fingerprint=fingerprint,
            seen="2026-01-01",
            seen_at=1.0,
            events=told,
            state=DeviceState(),
            must_be_new=asked,
        )

    def alive(self, gateway: str) -> None:
        self.client.call("SET", self.keys.gateway(gateway), "x")

    def token(self) -> str | None:
        found = self.client.call("HGET", self.keys.session(DEVICE), "token")
        return None if found is None else found.decode()

    def told(self) -> list[str]:
        return [event.get("told", event["kind"]) for event in self.script.events()]


class OfferTests(OfferCase):
    def test_nobody_has_it(self) -> None:
        """A device that no gateway has is taken, and told to be online."""
        self.assertEqual(self.offer("gw1/a-1"), 0)
        self.assertEqual((self.token(), self.told()), ("gw1/a-1", ["online"]))

    def test_over_tcp_elsewhere(self) -> None:
        """One that another gateway has over TCP stays there, whatever is said, and nothing is told."""
        self.alive("gw2")
        self.commit(self.session(OpenSession, "gw2/b-1", "tcp"), gateway="gw2")
        for report in ("", REPORT):
            self.assertEqual(self.offer("gw1/a-1", report), {0: b"DECLINED"})
        self.assertEqual((self.token(), self.told()), ("gw2/b-1", ["online"]))
        self.assertEqual(self.client.call("LLEN", self.keys.route("gw2")), 0)

    def test_over_udp_elsewhere(self) -> None:
        """One that another gateway has over UDP moves with a report that is new."""
        self.alive("gw2")
        self.commit(self.session(OpenSession, "gw2/b-1", "udp"), self.report(REPORT), gateway="gw2")
        self.assertEqual(self.offer("gw1/a-1"), {0: b"DECLINED"})
        self.assertEqual(self.offer("gw1/a-2", REPORT), {0: b"DECLINED"})
        self.assertEqual(self.offer("gw1/a-3", OTHER), 0)
        self.assertEqual((self.token(), self.told()), ("gw1/a-3", ["online", "unknown", "replaced"]))
        # The other one is told.
        self.assertEqual(self.client.call("LLEN", self.keys.route("gw2")), 1)

    def test_dead_gateway(self) -> None:
        """What a gateway had that has died keeps nobody out, and neither does our own from before."""
        self.commit(self.session(OpenSession, "gw2/b-1", "tcp"), gateway="gw2")
        self.assertEqual(self.offer("gw1/a-1"), 0)
        self.alive("gw1")
        self.assertEqual(self.offer("gw1/c-1"), 0)
        self.assertEqual(self.token(), "gw1/c-1")


class KnownTests(OfferCase):
    def test_told(self) -> None:
        """Whoever asks is told that a report was known; it is published once, and others are as before."""
        self.assertEqual(self.commit(self.report(REPORT, True)), 0)
        self.assertEqual(self.commit(self.report(REPORT, True)), [0, 0, b"KNOWN"])
        self.assertEqual(self.commit(self.report(REPORT)), 1)
        self.assertEqual(self.commit(self.report(OTHER, True), self.report(OTHER, True)), [0, 1, b"KNOWN"])
        self.assertEqual(self.told(), ["unknown", "unknown"])

    def test_in_nobodys_session(self) -> None:
        """A guest's report is taken whosever session is the newest."""
        self.commit(self.session(OpenSession, "gw1/a-1", "tcp"))
        self.assertEqual(self.commit(self.report(REPORT, True)), 0)
