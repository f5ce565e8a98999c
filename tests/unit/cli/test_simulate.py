"""jt709c simulate as a process, against a small gateway in this one."""

import fcntl
import os
import pty
import subprocess
import sys
import termios

from twisted.internet import defer, reactor, utils
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.simulation import describe, make_locks
from jt709c_gateway.cli.target_address import read_target
from tests.unit.simulator.test_client import EchoDatagrams, EchoFactory, HangingUp

COMMAND = ["-m", "jt709c_gateway.cli.main", "simulate"]
OPTIONS = {"first_id": None, "route": None, "sleep": None}


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
    def test_its_help_has_examples_that_work(self):
        out, _, status = yield self.simulate("--help")
        self.assertEqual(status, 0)
        examples = [line.split()[2:] for line in out.decode().splitlines() if "  jt709c simulate " in line]
        self.assertEqual(len(examples), 4)
        for example in examples:
            target = ("--udp", self.udp) if "--udp" in example else ("--tcp", self.tcp)
            out, err, status = yield self.simulate(*example, *target, "--duration", "0.5")
            self.assertEqual((status, err), (0, b""), out)

    @defer.inlineCallbacks
    def test_a_dialect_that_is_none_is_refused_with_those_that_are(self):
        _, err, status = yield self.simulate("--dialect", "jt808")
        self.assertEqual((status, err.count(b"\n")), (2, 1), err)
        self.assertIn(b"'jt709', 'jt705', 'jt701'", err)

    @defer.inlineCallbacks
    def test_a_fleet_that_cannot_connect_is_status_1(self):
        out, err, status = yield self.simulate("--tcp", "127.0.0.1:9", "--duration", "0.3", "--grace", "0.1")
        said = b"127.0.0.1:9: connection refused; is a gateway running there?\n"
        self.assertEqual((status, err), (1, said), out)
        self.assertIn(b"0 connections", out)
        self.assertRegex(out, rb"; connection refused: [1-9]")

    @defer.inlineCallbacks
    def test_a_gateway_that_closes_at_its_limit_is_named(self):
        port = reactor.listenTCP(0, Factory.forProtocol(HangingUp), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        target = f"127.0.0.1:{port.getHost().port}"
        _, err, _ = yield self.simulate("--tcp", target, "--duration", "0.3", "--grace", "0.1")
        self.assertIn(b"closed by the gateway before it answered; it is at one of its limits", err)


class Terminal(SynchronousTestCase):
    """The live table on a terminal of its own."""

    def run_on_terminal(self, foreground):
        """Run a short simulation on a terminal; return what it shows there."""
        ours, theirs = pty.openpty()
        # The first process owns the terminal; the second, in a group of its own, is its background.
        code = (
            "import os, subprocess, sys; "
            f"sys.exit(subprocess.run(sys.argv[1:], process_group={None if foreground else 0}).returncode)"
        )
        arguments = ("--tcp", "127.0.0.1:9", "--duration", "0.8", "--grace", "0.1")
        process = subprocess.Popen(
            [sys.executable, "-c", code, sys.executable, *COMMAND, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        os.close(ours)
        self.assertEqual(process.wait(60), 1, shown)
        return shown.decode()

    def test_the_table_is_drawn_in_the_foreground_only(self):
        """In the background are notices and the summary: others write on that terminal."""
        shown = self.run_on_terminal(foreground=True)
        self.assertIn("reports unanswered", shown)
        self.assertIn("connection refused; is a gateway running there?", shown)
        shown = self.run_on_terminal(foreground=False)
        notice, summary = shown.splitlines()
        self.assertEqual(notice, "127.0.0.1:9: connection refused; is a gateway running there?")
        self.assertTrue(summary.startswith("1 virtual lock (jt709): 0 report frames sent"), summary)
        self.assertIn("; 0 commands, 0 answered; 0 times unlocked,", summary)


class Arguments(SynchronousTestCase):
    def test_addresses(self):
        self.assertEqual(read_target("tcp", "127.0.0.1:8888").host, "127.0.0.1")
        self.assertEqual(read_target("udp", "[::1]:8888").host, "::1")
        for wrong in ("", "8888", ":8888", "127.0.0.1:0", "127.0.0.1:65536", "::1:8888", "a b:1"):
            self.assertRaises(UserError, read_target, "tcp", wrong)

    def test_dialects_take_turns_each_with_ids_of_its_own(self):
        locks = make_locks(5, **OPTIONS, dialects=("jt709", "jt701"), sublocks=3)
        self.assertEqual(
            [(lock.device, lock.options.dialect, lock.options.sublocks) for lock in locks],
            [
                ("794308010001", "jt709", 0),
                ("8000010001", "jt701", 3),
                ("794308010002", "jt709", 0),
                ("8000010002", "jt701", 3),
                ("794308010003", "jt709", 0),
            ],
        )
        self.assertEqual(describe(locks), "5 virtual locks (3 jt709, 2 jt701 with 6 sub-locks)")
        self.assertEqual(describe(locks[:1]), "1 virtual lock (jt709)")
        self.assertIs(locks[0].counters, locks[1].counters)

    def test_an_alarm_chooses_the_dialect(self):
        for alarms, dialect in (((), "jt709"), (("low_battery",), "jt709"), (("rope_cut",), "jt701")):
            (lock,) = make_locks(1, **OPTIONS, alarms=alarms)
            self.assertEqual((lock.options.dialect, lock.options.alarms), (dialect, set(alarms)))
        self.assertEqual(
            make_locks(1, **OPTIONS, alarms=("vibration", "low_battery"))[0].options.dialect, "jt705"
        )

    def test_an_alarm_is_for_the_dialects_that_have_it(self):
        locks = make_locks(2, **OPTIONS, dialects=("jt709", "jt701"), alarms=("rope_cut", "low_battery"))
        self.assertEqual(
            [lock.options.alarms for lock in locks], [{"low_battery"}, {"low_battery", "rope_cut"}]
        )

    def test_a_first_id_counts_for_all_of_them(self):
        locks = make_locks(3, **{**OPTIONS, "first_id": "77"}, dialects=("jt705", "jt701"))
        self.assertEqual([lock.device for lock in locks], ["77", "78", "79"])

    def test_what_can_not_be_is_one_line_that_names_it(self):
        for changes, text in (
            ({"sublocks": 2}, "--sublocks: only jt701 masters have sub-locks; add --dialect jt701"),
            ({"sublocks": 67, "dialects": ("jt701",)}, "--sublocks: 67 is not from 0 to 66"),
            ({"sublocks": -1, "dialects": ("jt701",)}, "--sublocks: -1 is not from 0 to 66"),
            (
                {"first_id": "12345678901", "dialects": ("jt701",)},
                "--first-id: the first id has 1 to 10 digits",
            ),
            (
                {"first_id": "9999999999", "dialects": ("jt709", "jt701")},
                "--first-id: the ids would have more",
            ),
            (
                {"alarms": ("rope_cut",), "dialects": ("jt709",)},
                "--alarm: jt709 locks report no rope_cut; add --dialect jt701",
            ),
            ({"alarms": ("ropecut",)}, "--alarm: 'ropecut' is not an alarm; expected one of back_cover"),
            ({"relock": -1.0}, "relock is from 0 to"),
        ):
            error = self.assertRaises(UserError, make_locks, 3, **{**OPTIONS, **changes})
            self.assertIn(text, str(error))
            self.assertNotIn("\n", str(error))

    def test_locks_share_options_and_counters_and_have_their_own_ways(self):
        locks = make_locks(3, **{**OPTIONS, "first_id": "1", "sleep": "60:300.5"}, interval=5.0)
        self.assertEqual([lock.device for lock in locks], ["1", "2", "3"])
        self.assertEqual(locks[0].options.sleep, (60.0, 300.5))
        self.assertIs(locks[0].counters, locks[2].counters)
        self.assertEqual(len({lock.vehicle.way_m for lock in locks}), 3)
