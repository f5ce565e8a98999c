"""jt709c simulate as a process, against a small gateway in this one."""

import os
import sys

from twisted.internet import defer, reactor, utils
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.simulation import make_locks, read_target
from tests.test_simulator_client import EchoDatagrams, EchoFactory

COMMAND = ["-m", "jt709c_gateway.cli.main", "simulate"]
OPTIONS = {"first_id": "1", "route": None, "sleep": None}


class Process(TestCase):
    timeout = 60

    def setUp(self):
        self.factory = EchoFactory()
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.tcp = f"127.0.0.1:{port.getHost().port}"
        self.datagrams = EchoDatagrams([])
        port = reactor.listenUDP(0, self.datagrams, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.udp = f"127.0.0.1:{port.getHost().port}"

    def simulate(self, *arguments):
        return utils.getProcessOutputAndValue(sys.executable, [*COMMAND, *arguments], dict(os.environ))

    @defer.inlineCallbacks
    def test_over_tcp_everything_is_answered(self):
        arguments = ("--locks", "5", "--tcp", self.tcp, "--interval", "0.2", "--duration", "1.5")
        out, err, status = yield self.simulate(*arguments)
        self.assertEqual((status, err), (0, b""), out)
        self.assertIn(b" 0 unanswered", out)
        self.assertIn(b"5 connections", out)
        self.assertNotIn(b"\x1b", out)
        self.assertEqual(len({message.device for message in self.factory.seen}), 5)

    @defer.inlineCallbacks
    def test_over_udp_what_stays_unanswered_is_status_1(self):
        arguments = ("--udp", self.udp, "--duration", "0.2", "--grace", "0.2", "--first-id", "77")
        out, _, status = yield self.simulate(*arguments)
        self.assertEqual(status, 0, out)
        self.assertEqual({message.device for message in self.datagrams.gateway.seen}, {"77"})
        self.datagrams.gateway.answering = False
        out, err, status = yield self.simulate(*arguments)
        self.assertEqual((status, err), (1, b""), out)
        self.assertIn(b" 1 unanswered", out)

    @defer.inlineCallbacks
    def test_a_fleet_that_cannot_connect_is_status_1(self):
        out, err, status = yield self.simulate("--tcp", "127.0.0.1:9", "--duration", "0.3", "--grace", "0.1")
        self.assertEqual((status, err), (1, b""), out)
        self.assertIn(b"0 connections", out)


class Arguments(SynchronousTestCase):
    def test_addresses(self):
        self.assertEqual(read_target("tcp", "127.0.0.1:8888").host, "127.0.0.1")
        self.assertEqual(read_target("udp", "[::1]:8888").host, "::1")
        for wrong in ("", "8888", ":8888", "127.0.0.1:0", "127.0.0.1:65536", "::1:8888", "a b:1"):
            self.assertRaises(UserError, read_target, "tcp", wrong)

    def test_locks_share_options_and_counters_and_have_their_own_ways(self):
        locks = make_locks(3, **{**OPTIONS, "sleep": "60:300.5"}, interval=5.0)
        self.assertEqual([lock.device for lock in locks], ["1", "2", "3"])
        self.assertEqual(locks[0].options.sleep, (60.0, 300.5))
        self.assertIs(locks[0].counters, locks[2].counters)
        self.assertEqual(len({lock.unit.way_m for lock in locks}), 3)
