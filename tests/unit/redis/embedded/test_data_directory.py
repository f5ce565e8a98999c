"""The embedded server's directory: bounded, tidy, and safe to name."""

import os
import shutil
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.embedded.data_directory import (
    LOG_LIMIT,
    EmbeddedServerError,
    ValkeyDirectory,
)
from tests.support import temporary_path


class DirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = ValkeyDirectory(temporary_path(self))
        self.directory.claim()
        self.addCleanup(self.directory.release)

    def test_log_bounded(self) -> None:
        """A log beyond its limit is moved aside, one generation deep; a smaller one stays."""
        log = self.directory.log_file
        older = log.with_name("valkey.log.1")
        for size, moved in ((LOG_LIMIT, False), (LOG_LIMIT + 1, True), (LOG_LIMIT + 2, True)):
            log.touch()
            os.truncate(log, size)
            self.directory.tidy()
            self.assertEqual(log.exists(), not moved)
            self.assertEqual(older.stat().st_size if moved else size, size)

    def test_leftovers_removed(self) -> None:
        """What a killed server left half written is removed, its data are not."""
        data = self.directory.path / "appendonlydir"
        data.mkdir()
        for name in ("temp-rewriteaof-bg-1.aof", "appendonly.aof.1.base.rdb"):
            (data / name).touch()
        (self.directory.path / "temp-rewriteaof-1.aof").touch()
        self.directory.tidy()
        self.assertEqual([path.name for path in data.iterdir()], ["appendonly.aof.1.base.rdb"])
        self.assertEqual(list(self.directory.path.glob("temp-*")), [])

    def test_last_log_line(self) -> None:
        """The last line comes without pid and time, and only from what was logged since."""
        self.assertEqual(self.directory.last_log_line(), "")
        old = b"9:M 22 Nov 2026 15:46:49.294 # Out of - everything.\n\n"
        self.directory.log_file.write_bytes(old)
        self.assertEqual(self.directory.last_log_line(), "Out of - everything.")
        self.assertEqual(self.directory.last_log_line(len(old)), "")
        self.directory.log_file.write_bytes(b"Bad directive or wrong number of arguments\n")
        self.assertEqual(self.directory.last_log_line(), "Bad directive or wrong number of arguments")

    def test_log_of_changes(self) -> None:
        """It may take a quarter of what the disk has free, within bounds, before it is written anew."""
        for free, limit in ((1 << 20, 64 << 20), (2 << 30, 512 << 20), (1 << 40, 2 << 30)):
            self.patch(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
            self.directory.write_config(1)
            written = self.directory.config_file.read_text()
            self.assertIn(f"\nauto-aof-rewrite-min-size {limit}\n", written)

    def test_control_character(self) -> None:
        """A path that would break out of its line in the configuration is refused."""
        directory = ValkeyDirectory(temporary_path(self) + "\nport 1")
        self.assertRaises(EmbeddedServerError, directory.write_config, 1)
