"""What the soak benchmark calls flat, and what not."""

import importlib.util
import random
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ROOT

MIB = 1024.0 * 1024.0


def _load(name: str) -> ModuleType:
    """A benchmark's module; they are scripts beside the package."""
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


flatness = _load("flatness")


class FlatnessTests(SynchronousTestCase):
    def setUp(self) -> None:
        dice = random.Random(709)
        self.times = [4.0 * number for number in range(20)]
        self.level = [60 * MIB + dice.uniform(-0.2, 0.2) * MIB for _ in self.times]

    def creeps(self, values: list[float]) -> object:
        return flatness.creeps(self.times, values, MIB, 4 * MIB)

    def test_level(self) -> None:
        """Noise around a level is flat, and so is a level with a burst in it."""
        self.assertIsNone(self.creeps(self.level))
        burst = [value + (30 * MIB if 8 <= index < 12 else 0) for index, value in enumerate(self.level)]
        self.assertIsNone(self.creeps(burst))

    def test_leak(self) -> None:
        """A leak of forty kilobytes a second is not, and is told as it is."""
        leak = [value + time * 40_000 for time, value in zip(self.times, self.level, strict=True)]
        found = self.creeps(leak)
        self.assertIsNotNone(found)
        self.assertAlmostEqual(found.per_hour / (40_000 * 3600), 1.0, places=1)
        self.assertAlmostEqual(found.seen / (40_000 * 76), 1.0, places=1)

    def test_slow_leak_needs_time(self) -> None:
        """What is no more than noise so far isn't called a leak; over an hour the same is."""
        leak = [value + time * 3000 for time, value in zip(self.times, self.level, strict=True)]
        self.assertIsNone(self.creeps(leak))
        self.times = [time * 50 for time in self.times]
        leak = [value + time * 3000 for time, value in zip(self.times, self.level, strict=True)]
        self.assertIsNotNone(self.creeps(leak))

    def test_small_growth(self) -> None:
        """What is clearly there and too slow to matter is let pass."""
        self.times = [time * 3600 for time in self.times]
        slow = [60 * MIB + time / 3600 * 0.5 * MIB for time in self.times]
        self.assertIsNone(self.creeps(slow))

    def test_falling(self) -> None:
        """Memory that is given back is no growth."""
        self.assertIsNone(self.creeps([60 * MIB - time * 100_000 for time in self.times]))

    def test_latency(self) -> None:
        """A latency that doubles and more is worse; a few spikes, or twice of nearly nothing, are not."""
        self.assertIsNone(flatness.slows([5.0] * 9, 2.0, 2.0))
        self.assertIsNone(flatness.slows([5, 5, 5, 5, 5, 5, 5, 90, 5], 2.0, 2.0))
        self.assertIsNone(flatness.slows([0.5, 0.5, 0.5, 1, 1, 1, 2, 2, 2], 2.0, 2.0))
        self.assertEqual(flatness.slows([5, 5, 5, 9, 9, 9, 13, 13, 13], 2.0, 2.0), (5, 13))
