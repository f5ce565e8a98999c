"""Every benchmark runs at a small size; its results then mean nothing."""

import json
import subprocess
import sys
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ROOT

BENCHMARKS = ROOT / "benchmarks"
LIMIT = 120.0


class RunTests(SynchronousTestCase):
    def run_one(self, name: str, *options: str) -> dict[str, Any]:
        """Run a benchmark and return the JSON of its last line."""
        command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(said["benchmark"], name)
        results: dict[str, Any] = said["results"]
        return results

    def test_codec(self) -> None:
        """µs of each step."""
        results = self.run_one("codec", "--seconds", "0.1", "--frames", "20")
        self.assertGreater(results["frames_per_second"], 0)

    def test_end_to_end(self) -> None:
        """Both loops, with one process and with two, the floor, and the naive server."""
        small = ("--locks", "20", "--seconds", "0.5", "--in-flight", "2", "--rate", "200")
        results = self.run_one("end_to_end", *small, "--floor", "--naive", "--workers", "1", "2")
        for load in ("2 in flight", "200 frames/s"):
            self.assertEqual(set(results[load]), {"gateway", "floor", "naive", "2 workers"})
            for result in results[load].values():
                self.assertGreater(result["answered"], 0)
            self.assertEqual(set(results["ratios"][load]), {"floor", "naive", "2 workers"})

    def test_against(self) -> None:
        """The last commit, in an environment that leaves nothing behind; servers without persistence."""
        git = ("git", "-C", str(BENCHMARKS.parent))
        head = subprocess.run((*git, "rev-parse", "--short", "HEAD"), capture_output=True, text=True)
        if head.returncode:
            raise SkipTest("this is no git checkout")
        small = ("--locks", "20", "--seconds", "0.5", "--in-flight", "2", "--rate", "--rounds", "2")
        results = self.run_one("end_to_end", *small, "--plain", "--against", "HEAD")
        other = head.stdout.strip()
        self.assertEqual(set(results["2 in flight"]), {"gateway", other})
        ratio, least, most = results["ratios"]["2 in flight"][other]["µs/frame"]
        self.assertTrue(0 < least <= ratio <= most)
        trees = subprocess.run((*git, "worktree", "list"), capture_output=True, text=True, check=True)
        self.assertNotIn("jt709c-against-", trees.stdout)

    def test_partitions(self) -> None:
        """One and three of them on a cluster; the work is spread."""
        small = ("--locks", "60", "--gateways", "2", "--partitions", "1", "3", "--rate", "100")
        results = self.run_one("partitions", *small, "--seconds", "1")
        self.assertEqual(set(results), {"1", "3"})
        self.assertEqual(len(results["3"]["node_us_per_frame"]), 3)
        self.assertGreater(results["3"]["least_partition"], 0)

    def test_durability(self) -> None:
        """Each kind, both loops."""
        results = self.run_one("durability", "--locks", "20", "--seconds", "0.5", "--rate", "200")
        self.assertEqual(len(results), 9)

    def test_commands(self) -> None:
        """Through the queue, and to an idle lock."""
        results = self.run_one("commands", "--commands", "20", "--locks", "5", "--seconds", "0.5")
        self.assertTrue(results)

    def test_storm(self) -> None:
        """Of few locks: all are answered."""
        results = self.run_one("storm", "--locks", "200", "--rounds", "2")
        self.assertEqual((results["answered"], results["refused"]), (200, 0))
        self.assertGreater(results["answered_ms"]["max"], 0)

    def test_memory(self) -> None:
        """Of few locks."""
        results = self.run_one("memory", "--locks", "20", "--seconds", "0.2")
        self.assertTrue(results)

    def test_figures(self) -> None:
        """The tables of results: ratios stand beside the gateway alone."""
        program = """
import json, figures
from tests.support import ROOT
values = {name: [10.0, 5.0, 20.0] for name in ("µs/frame", "Valkey µs", "frames/s", "p50 ms", "p99 ms")}
floor = values | {"Valkey µs": [0.0, 0.0, 0.0]}
spreads = {"1 in flight": {"gateway": values, "abc": values, "floor": floor}}
ratios = {"1 in flight": {"abc": {"µs/frame": [0.5, 0.4, 0.625], "Valkey µs": [1.0, 1.0, 1.0]}}}
rows = list(figures.compared({"spreads": spreads, "ratios": ratios}, "abc"))
table = figures.table(("a", "b"), [("c", "d")])
print(json.dumps([rows, list(figures.shipped({"spreads": spreads})), table]))
"""
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=LIMIT)
        self.assertEqual(done.stderr, "")
        compared, shipped, table = json.loads(done.stdout)
        cost = "10.0 (5.0 to 20.0)"
        load = "1 in flight"
        self.assertEqual(
            compared,
            [
                [load, "before", cost, "", cost, "", cost, cost],
                [load, "now", cost, "0.50 (0.40 to 0.62)", cost, "1.00 (1.00 to 1.00)", cost, cost],
                [load, "floor", cost, "", "none", "", cost, cost],
            ],
        )
        self.assertEqual(shipped[0][:2], [load, "100,000 (50,000 to 200,000)"])
        self.assertEqual(
            table, ".. list-table::\n   :header-rows: 1\n\n   * - a\n     - b\n   * - c\n     - d\n"
        )
