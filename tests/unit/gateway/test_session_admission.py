"""Whether a message gets a session, and if not, why: each decision by itself."""

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.interfaces import NoSession
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.takeover_limit import TakeoverLimiter
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from tests.support.committer import FakeLink, Fleet
from tests.vectors import binary

FIRST, SECOND, THIRD = "794308010679", "794308010680", "794308010681"


class _Told(Admission):
    """Answers as it is told."""

    def __init__(self, answer: bool | None) -> None:
        self.answer = answer

    def admits(self, device: str) -> bool | None:
        return self.answer

    def ask(self, device: str) -> "defer.Deferred[bool]":
        return defer.Deferred()


class DecisionTests(SynchronousTestCase):
    """One message of a device, over TCP and over UDP."""

    def fleet_of(self, policy: Policy | None = None, answer: bool | None = True) -> None:
        """A gateway with this policy, whose admission always answers the same."""
        self.fleet = Fleet(policy, admission=_Told(answer))

    def message(self, device: str) -> Message:
        (frame,) = Framer().feed(binary(0x0002, wire=bytes.fromhex(device)))
        message = Decoder().decode(frame, 0.0)
        assert isinstance(message, Message)
        return message

    def found(self, device: str = FIRST, link: FakeLink | None = None, udp: bool = False) -> object:
        """The decision: the kind of session, or why there is none."""
        link = link or self.fleet.link("udp" if udp else "tcp")
        gateway = self.fleet.gateway
        found = gateway.session_for(link.connection, self.message(device), gateway.events.moment())
        if not isinstance(found, Session):
            return found
        return "session" if gateway.sessions.get(device.lstrip("0")) is found else "guest"

    def test_admitted(self) -> None:
        """Over TCP the device gets a session at once; over UDP it is a guest until Redis has accepted it."""
        self.fleet_of()
        self.assertEqual(self.found(), "session")
        self.assertEqual(self.found(SECOND, udp=True), "guest")

    def test_admission(self) -> None:
        """Unknown: it has to be queried. Refused: the link is closed."""
        self.fleet_of(answer=None)
        self.assertIs(self.found(), NoSession.QUERY)
        self.assertIs(self.found(udp=True), NoSession.QUERY)
        self.fleet_of(answer=False)
        link = self.fleet.link()
        self.assertIs(self.found(link=link), NoSession.CLOSED)
        self.assertEqual(link.closed, ["not_admitted"])

    def test_connected_elsewhere(self) -> None:
        """A device that is connected was admitted; its next connection needs no query."""
        self.fleet_of()
        self.found()
        self.fleet.gateway.admission.answer = None
        self.assertEqual(self.found(), "session")

    def test_new_devices(self) -> None:
        """Beyond the limit of its address a device waits on its own connection, and is dropped elsewhere."""
        self.fleet_of(Policy(max_new_devices=1))
        link = self.fleet.link()
        self.assertEqual(self.found(FIRST, link), "session")
        self.assertIs(self.found(SECOND), NoSession.WAIT)
        self.assertIs(self.found(SECOND, udp=True), NoSession.NEW_DEVICES)
        self.assertIs(self.found(THIRD, link), NoSession.NEW_DEVICES)

    def test_rate(self) -> None:
        """A device that has used up its budget waits on its own connection, and is dropped elsewhere."""
        self.fleet_of(Policy(max_rate=0.1))
        own, shared = self.fleet.link(), self.fleet.link()
        for device, link in ((FIRST, own), (SECOND, shared), (THIRD, shared)):
            self.assertEqual(self.found(device, link), "session")
            self.fleet.gateway.sessions.get(device).budget.allowance = 0
        self.assertIs(self.found(FIRST, own), NoSession.WAIT)
        self.assertIs(self.found(SECOND, shared), NoSession.RATE)
        # A new connection does not help.
        self.assertIs(self.found(FIRST), NoSession.RATE)

    def test_share(self) -> None:
        """The same with its share of the stream."""
        self.fleet_of(Policy(max_share=1000.0))
        shared = self.fleet.link()
        for device in (FIRST, SECOND):
            self.found(device, shared)
        self.fleet.gateway.sessions.get(FIRST).budget.allowance = 0
        self.fleet.gateway.sessions.get(FIRST).budget.of_share = 0
        self.fleet.gateway.sessions.get(FIRST).budget.granted = 0
        self.assertIs(self.found(FIRST, shared), NoSession.SHARE)

    def test_full(self) -> None:
        """Where no session may be evicted, the link is closed."""
        self.fleet_of(Policy(max_sessions=1))
        self.found()
        link = self.fleet.link()
        self.assertIs(self.found(SECOND, link), NoSession.CLOSED)
        self.assertEqual(link.closed, ["max_sessions"])

    def test_takeovers(self) -> None:
        """Two devices of one id that end each other's session too often take turns more slowly."""
        self.fleet_of()
        found = [self.found() for _ in range(20)]
        began = found.count("session")
        self.assertEqual(found, ["session"] * began + [NoSession.WAIT] * (20 - began))
        self.assertTrue(1 < began < 20)

    def test_takeovers_by_another_gateway(self) -> None:
        """Those whose other lock is elsewhere wait to be named, once, by whoever can ask for it."""
        takeovers = TakeoverLimiter()
        for device in (FIRST, SECOND, FIRST):
            takeovers.warn_once(device, None, f"peer of {device}")
        self.assertEqual(takeovers.take_elsewhere([SECOND].__contains__), {SECOND: f"peer of {SECOND}"})
        self.assertEqual(takeovers.take_elsewhere(lambda device: True), {FIRST: f"peer of {FIRST}"})
        takeovers.warn_once(FIRST, None, "peer")
        self.assertEqual(takeovers.take_elsewhere(lambda device: True), {})
