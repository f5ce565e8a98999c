"""jt709c replay as a process, against a real gateway."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from jt709c_gateway.protocol import jt808
from tests.support import free_port, temporary_path, wait_until
from tests.support.cli import COMMAND, TIMEOUT, Running, run
from tests.support.daemon import Daemon, DaemonCase
from tests.unit.cli.replay.test_packets import ACK, FIN, SYN, ethernet, pcap, tcp, udp
from tests.vectors import binary, load, location


def report(device: int, serial: int) -> bytes:
    return binary(jt808.LOCATION, location(), serial, bytes.fromhex(f"{device:012d}"))


class ReplayTests(DaemonCase):
    def setUp(self) -> None:
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)

    def file(self, content: bytes) -> str:
        path = Path(temporary_path(self))
        path.write_bytes(content)
        return str(path)

    def replay(self, path: str, *arguments: str, port: int | None = None, stdin: str | None = None):  # type: ignore[no-untyped-def]
        to = f"127.0.0.1:{port or self.daemon.tcp_port}"
        return run("replay", path, "--to", to, *arguments, stdin=stdin)

    def reports_of(self, device: str) -> list[dict[str, object]]:
        entries = self.redis.call("XRANGE", "jt709c:events", "-", "+")
        events = [json.loads(fields[5]) for _, fields in entries]
        return [one for one in events if one["device"] == device and one["kind"] == "location"]

    def test_packets(self) -> None:
        """What was captured is in Redis, over a connection of its own."""
        frame = report(880000000001, 7)
        connection = (
            tcp(flags=SYN, seq=0),
            tcp(frame[:20], seq=1),
            tcp(b"old answer", back=True),
            tcp(frame[20:], seq=21),
            tcp(seq=1 + len(frame), flags=FIN | ACK),
        )
        path = self.file(pcap([ethernet(one) for one in connection]))
        result = self.replay(path, "--speed", "20")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("1 frames sent", result.stdout)
        self.assertIn("of 1 to be answered 1 were, 0 not", result.stdout)
        (found,) = self.reports_of("880000000001")
        self.assertEqual((found["raw"], found["serial"], found["transport"]), (frame.hex(), 7, "tcp"))
        result = self.replay(path, "--speed", "max")
        self.assertIn("of 1 to be answered 1 were", result.stdout)
        self.assertEqual(len(self.reports_of("880000000001")), 1)

    def test_datagrams(self) -> None:
        """Over UDP as captured, and over TCP if that is wanted."""
        path = self.file(pcap([ethernet(udp(report(880000000002, 1)))]))
        result = self.replay(path, port=self.daemon.udp_port)
        self.assertEqual(result.returncode, 0, result.stdout)
        path = self.file(pcap([ethernet(udp(report(880000000002, 2)))]))
        self.assertEqual(self.replay(path, "--tcp").returncode, 0)
        transports = [one["transport"] for one in self.reports_of("880000000002")]
        self.assertEqual(transports, ["udp", "tcp"])

    def test_recorded_frames(self) -> None:
        """The frames of real units in our own vectors, from standard input, as lines of JSON."""
        text = "".join(
            json.dumps({"frame": one["frame"].hex()}) + "\n"
            for one in load("real.jsonl")
            if one["frame"][:1] == b"\x7e"
        )
        result = self.replay("-", "--speed", "max", stdin=text)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"-: [1-9]\d* frames sent .* 0 not;")

    def test_export(self) -> None:
        """What watch --json shows of one fleet is fed to another gateway, and is the same there."""
        lines = (
            f"lock1: {report(880000000003, 1).hex()}\nlock2: {report(880000000004, 1).hex()}\n"
            f"lock1: {report(880000000003, 2).hex()}\n"
        )
        self.assertEqual(self.replay(self.file(lines.encode()), "--speed", "max").returncode, 0)
        with Running("watch", "--json", "--since", "1h", JT709C_REDIS=self.server.url) as watch:
            export = [watch.line()]
            while not ('"location"' in export[-1] and report(880000000003, 2).hex() in export[-1]):
                export.append(watch.line())
        other = Daemon(udp=False).start()
        self.addCleanup(other.discard)
        result = self.replay(
            self.file("".join(export).encode()), "--tcp", "--speed", "max", port=other.tcp_port
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        with other.embedded_client() as client:
            entries = client.call("XRANGE", "jt709c:events", "-", "+")
        found = {json.loads(fields[5])["raw"] for _, fields in entries}
        self.assertLessEqual({report(880000000003, 1).hex(), report(880000000003, 2).hex()}, found)

    def test_refused(self) -> None:
        path = self.file(report(880000000005, 1).hex().encode())
        result = self.replay(path, port=free_port())
        self.assertEqual((result.returncode, result.stderr), (1, ""))
        self.assertIn("1 connections refused, 0 closed by the gateway, 43 bytes not sent", result.stdout)

    def test_mistakes(self) -> None:
        """One line that names the file and the place, and what was sent before it."""
        good = report(880000000006, 1).hex()
        for content, place in (
            (f"{good}\n+0.5 zz\n".encode(), ", line 2: not hex: text of 2 characters"),
            (pcap([ethernet(udp(report(880000000006, 1)))])[:-2], ", packet 1: the file ends in the middle"),
            (pcap([]), ": nothing was sent to port 8888 (--port)"),
            (b"# nothing\n", ": it contains nothing to replay"),
            (bytes(range(256)), ", line 1: not hex"),
        ):
            path = self.file(content)
            result = self.replay(path)
            self.assertEqual(result.returncode, 2, result.stdout)
            self.assertTrue(result.stderr.startswith(f"jt709c: {path}{place}"), result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)
        result = self.replay("/nonexistent")
        self.assertEqual(result.stderr, "jt709c: cannot read /nonexistent: No such file or directory\n")

    def test_without_the_library(self) -> None:
        """Text needs no dpkt; for packets it is said how to get it."""
        hidden = "import sys; sys.modules['dpkt'] = None; from jt709c_gateway.cli.main import main; main()"
        to = ["--to", f"127.0.0.1:{self.daemon.tcp_port}"]
        for content, status in (
            (pcap([ethernet(udp(b"x"))]), 2),
            (report(880000000007, 1).hex().encode(), 0),
        ):
            result = subprocess.run(
                [sys.executable, "-c", hidden, "replay", self.file(content), *to],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            self.assertEqual(result.returncode, status, result.stderr)
        path = self.file(pcap([]))
        result = subprocess.run(
            [sys.executable, "-c", hidden, "replay", path], capture_output=True, text=True, check=False
        )
        self.assertIn("pip install 'jt709c-gateway[pcap]'", result.stderr)

    def test_an_interrupt_sums_up(self) -> None:
        path = self.file(f"{report(880000000008, 1).hex()}\n+500 {report(880000000008, 2).hex()}\n".encode())
        process = subprocess.Popen(
            [*COMMAND, "replay", path, "--to", f"127.0.0.1:{self.daemon.tcp_port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        with process:
            wait_until(lambda: self.reports_of("880000000008"))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, err), (130, ""))
        self.assertIn("1 frames sent", out)
