"""Virtual locks on the network: against fake reactors, and against a small gateway on loopback."""

from collections import Counter
from datetime import UTC, datetime
from math import isclose

from twisted.internet import defer, protocol, reactor, task
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.simulator.client import CLOSED_UNANSWERED, DATAGRAM_REJECTED, Fleet, device_ids
from jt709c_gateway.simulator.connections import Target
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import FIRST_IDS, LockOptions

START = 1_800_000_000.0


def make_locks(count: int = 1, **options) -> list[VirtualLock]:
    shared, counters = LockOptions(**options), Counters()
    return [VirtualLock(device, shared, counters) for device in device_ids(FIRST_IDS[shared.dialect], count)]


class EchoGateway(protocol.Protocol):
    """Answers what locks send, as a gateway without Redis would. `answering` can be switched off."""

    answering = True

    def __init__(self, seen=None):
        self.seen = [] if seen is None else seen
        self.framer, self.decoder = Framer(), Decoder()

    def answers(self, frames):
        for frame in frames:
            message = self.decoder.decode(frame, 0.0)
            assert isinstance(message, Message), message
            self.seen.append(message)
            answer = message.answer_at(datetime.now(UTC))
            if answer and self.answering:
                yield answer

    def dataReceived(self, data):
        self.transport.write(b"".join(self.answers(self.framer.feed(data))))


class EchoDatagrams(protocol.DatagramProtocol):
    """The same for datagrams."""

    noisy = False

    def __init__(self, seen):
        self.gateway = EchoGateway(seen)

    def datagramReceived(self, datagram, addr):
        for answer in self.gateway.answers(Framer().feed_datagram(datagram)):
            self.transport.write(answer, addr)


class HangingUp(protocol.Protocol):
    """A gateway at its limit."""

    def connectionMade(self):
        self.transport.loseConnection()


class EchoFactory(protocol.ServerFactory):
    noisy = False

    def __init__(self):
        self.seen, self.protocols = [], []

    def buildProtocol(self, addr):
        self.protocols.append(EchoGateway(self.seen))
        return self.protocols[-1]


class StreamTransport(StringTransport):
    """StringTransport with the socket options that a client sets, and an abort to count."""

    aborted = False

    def setTcpNoDelay(self, enabled):
        pass

    def abortConnection(self):
        self.aborted = True


class FakeTcp(SynchronousTestCase):
    def setUp(self):
        self.reactor = MemoryReactorClock()
        self.reactor.advance(START)
        self.gateway = EchoGateway()

    def fleet(self, count=1, **options):
        fleet = Fleet(self.reactor, make_locks(count, **options), Target("tcp", "192.0.2.1", 8888))
        fleet.start()
        return fleet

    def accept(self, number=-1):
        """Let the attempt `number` succeed; the client's protocol, its transport set."""
        factory = self.reactor.tcpClients[number][2]
        client = factory.buildProtocol(None)
        client.makeConnection(StreamTransport())
        return client

    def answer(self, client):
        data = client.transport.value()
        client.transport.clear()
        client.dataReceived(b"".join(self.gateway.answers(self.gateway.framer.feed(data))))

    def test_it_connects_reports_and_counts_the_answer(self):
        fleet = self.fleet()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.1", 8888))
        client = self.accept()
        self.reactor.advance(0.25)
        self.answer(client)
        counters = fleet.counters
        self.assertEqual((counters.up, counters.sent, counters.answered, fleet.unanswered), (1, 1, 1, 0))
        self.assertTrue(isclose(counters.latencies.percentile(99), 0.25, rel_tol=0.021))

    def test_every_dialect_is_driven_in_time(self):
        for dialect, sublocks in (("jt709", 0), ("jt705", 0), ("jt701", 3)):
            self.gateway = EchoGateway()
            fleet = self.fleet(dialect=dialect, sublocks=sublocks, interval=20, heartbeat=30)
            client = self.accept()
            for _ in range(60):
                self.answer(client)
                self.reactor.advance(1)
            self.answer(client)
            counters = fleet.counters
            self.assertEqual((fleet.unanswered, counters.resent, counters.unreadable), (0, 0, 0), dialect)
            kinds = Counter(kind for message in self.gateway.seen for kind, _ in message.events)
            self.assertEqual(kinds["peripheral"], 3 * sublocks)
            self.assertTrue(3 <= kinds["location"] <= 4 and 1 <= kinds["heartbeat"] <= 2, kinds)
            self.assertEqual((kinds["password"], kinds["time_request"]), (1, 1))

    def test_an_attempt_that_fails_is_repeated_ever_more_slowly(self):
        fleet = self.fleet()
        waits = []
        for _ in range(12):
            attempts = len(self.reactor.tcpClients)
            self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            waited = 0.0
            while len(self.reactor.tcpClients) == attempts:
                self.reactor.advance(0.1)
                waited += 0.1
            waits.append(waited)
        self.assertLess(waits[0], 1)
        self.assertGreater(min(waits[-2:]), 10)
        self.assertLess(max(waits), 50)
        self.assertEqual(fleet.counters.connect_failures, 12)

    def test_after_a_lost_connection_it_comes_back_with_what_was_not_answered(self):
        fleet = self.fleet(register=False, ask_time=0, dynamic_password=False)
        client = self.accept()
        first = client.transport.value()
        client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((fleet.counters.up, fleet.counters.disconnects), (0, 1))
        self.reactor.advance(3)
        self.assertEqual(self.accept().transport.value(), first)

    def test_a_sleeping_lock_hangs_up_and_connects_when_it_wakes(self):
        fleet = self.fleet(sleep=(10.0, 500.0), interval=1000)
        client = self.accept()
        self.answer(client)
        self.reactor.pump([1.0] * 20)
        self.assertTrue(client.transport.disconnecting)
        client.connectionLost(Failure(ConnectionDone()))
        self.reactor.pump([1.0] * 400)
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.reactor.pump([1.0] * 120)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.assertEqual(fleet.counters.up, 0)

    def test_a_connection_that_does_not_close_is_aborted(self):
        fleet = self.fleet()
        client = self.accept()
        stopped = fleet.stop()
        self.assertNoResult(stopped)
        self.reactor.advance(6)
        self.assertTrue(client.transport.aborted)
        client.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)

    def test_nothing_is_left_in_the_reactor_after_stopping(self):
        for accepted in (False, True):
            fleet = self.fleet()
            client = self.accept() if accepted else None
            stopped = fleet.stop()
            if client:
                client.connectionLost(Failure(ConnectionDone()))
            else:
                self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            self.successResultOf(stopped)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_fleet_is_switched_on_bit_by_bit(self):
        locks = make_locks(100)
        fleet = Fleet(self.reactor, locks, Target("tcp", "192.0.2.1", 8888), ramp=50)
        fleet.start()
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.reactor.pump([0.1] * 10)
        self.assertTrue(45 <= len(self.reactor.tcpClients) <= 55)
        fleet.stop()
        self.reactor.pump([0.1] * 10)
        self.assertLessEqual(len(self.reactor.tcpClients), 55)

    def test_a_fleet_has_locks(self):
        self.assertRaises(ValueError, Fleet, self.reactor, [], Target("tcp", "192.0.2.1", 8888))


class Ids(SynchronousTestCase):
    def test_they_count_up(self):
        self.assertEqual(device_ids("0009", 3), ["9", "10", "11"])

    def test_what_is_no_id_or_outgrows_twelve_digits_is_refused(self):
        self.assertRaises(ValueError, device_ids, "12x", 1)
        self.assertRaises(ValueError, device_ids, "999999999999", 2)
        self.assertEqual(device_ids("999999999999", 1), ["999999999999"])


class Loopback(TestCase):
    """Real sockets; everything is waited for, with a limit."""

    timeout = 20

    def setUp(self):
        self.factory = EchoFactory()

    def listen_tcp(self):
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return Target("tcp", "127.0.0.1", port.getHost().port)

    def listen_udp(self):
        self.datagrams = EchoDatagrams(self.factory.seen)
        port = reactor.listenUDP(0, self.datagrams, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return Target("udp", "127.0.0.1", port.getHost().port)

    async def until(self, condition):
        while not condition():
            await task.deferLater(reactor, 0.01)

    def run_fleet(self, target, count, reports, **options):
        fleet = Fleet(reactor, make_locks(count, interval=0.1, **options), target)

        async def run():
            fleet.start()
            try:
                await self.until(lambda: fleet.counters.answered >= reports)
                fleet.drain()
                await self.until(lambda: not fleet.unanswered)
            finally:
                await fleet.stop()
            return fleet

        return defer.Deferred.fromCoroutine(run())

    async def check(self, target, count):
        fleet = await self.run_fleet(target, count, 10 * count)
        counters = fleet.counters
        self.assertEqual((counters.up, counters.connects, counters.sent), (0, count, counters.answered))
        self.assertEqual({message.device for message in self.factory.seen}, {x.device for x in fleet.locks})
        self.assertLess(counters.latencies.percentile(50), 5)
        kinds = {kind for message in self.factory.seen for kind, _ in message.events}
        self.assertLessEqual({"location", "registration", "time_request", "password"}, kinds)

    def test_a_fleet_over_tcp_gets_every_report_answered(self):
        return defer.Deferred.fromCoroutine(self.check(self.listen_tcp(), 30))

    def test_a_fleet_over_udp_gets_every_report_answered(self):
        return defer.Deferred.fromCoroutine(self.check(self.listen_udp(), 30))

    def test_each_problem_is_told_once_and_counted(self):
        """A gateway that closes before it answers, as at one of its limits; one that isn't there."""
        closing = protocol.Factory.forProtocol(HangingUp)
        port = reactor.listenTCP(0, closing, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        targets = (
            (Target("tcp", "127.0.0.1", port.getHost().port), CLOSED_UNANSWERED),
            (Target("tcp", "127.0.0.1", 9), "connection refused"),
            (Target("udp", "127.0.0.1", 9), DATAGRAM_REJECTED),
        )

        async def check():
            for target, problem in targets:
                told = []
                fleet = Fleet(reactor, make_locks(2, interval=0.1), target, on_problem=told.append)
                fleet.start()
                try:
                    await self.until(lambda seen=fleet.counters.problems, one=problem: seen[one] >= 3)
                finally:
                    await fleet.stop()
                self.assertEqual((told, list(fleet.counters.problems)), ([problem], [problem]))

        return defer.Deferred.fromCoroutine(check())

    def test_it_outlives_a_gateway_that_hangs_up(self):
        target = self.listen_tcp()

        async def check():
            fleet = Fleet(reactor, make_locks(3, interval=0.1), target)
            fleet.start()
            try:
                await self.until(lambda: fleet.counters.answered >= 6)
                for gateway in self.factory.protocols:
                    gateway.transport.abortConnection()
                await self.until(lambda: fleet.counters.connects == 6)
                fleet.drain()
                await self.until(lambda: not fleet.unanswered)
            finally:
                await fleet.stop()
            self.assertEqual(fleet.counters.disconnects, 6)

        return defer.Deferred.fromCoroutine(check())

    def test_over_udp_a_report_that_nobody_took_is_sent_again(self):
        target = self.listen_udp()
        self.datagrams.gateway.answering = False

        async def check():
            fleet = Fleet(reactor, make_locks(1, interval=100, resend_after=0.1), target)
            fleet.start()
            try:
                await self.until(lambda: fleet.counters.resent >= 2)
                self.datagrams.gateway.answering = True
                await self.until(lambda: not fleet.unanswered)
            finally:
                await fleet.stop()
            frames = {message.wire for message in self.factory.seen if message.message_id == 0x0200}
            self.assertEqual(len(frames), 1)

        return defer.Deferred.fromCoroutine(check())
