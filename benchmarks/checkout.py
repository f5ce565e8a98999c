"""Another commit of this repository, to be measured in turn with this one."""

import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import HERE, BenchmarkError

_REPOSITORY = HERE.parent


def _git(*arguments: str | Path) -> str:
    command = ["git", "-C", str(_REPOSITORY), *[str(one) for one in arguments]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def name_of(commit: str) -> str:
    """The short id of a commit."""
    return _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}")


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Check a commit out into a worktree and a virtual environment, removed at the end; yield its Python.

    All other packages are those of the running Python, so that only the gateway's own code differs.
    """
    with tempfile.TemporaryDirectory(prefix="jt709c-against-") as directory:
        tree, environment = Path(directory) / "tree", Path(directory) / "venv"
        _git("worktree", "add", "--detach", tree, commit)
        try:
            venv.create(environment, symlinks=True)
            ours = sysconfig.get_paths()
            base = {"base": str(environment), "platbase": str(environment)}
            packages = Path(sysconfig.get_path("purelib", "venv", base))
            paths = dict.fromkeys([str(tree), ours["purelib"], ours["platlib"]])
            # Paths in it are not searched for further .pth files, such as one that leads to this checkout.
            (packages / "against.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
            yield environment / "bin" / "python"
        finally:
            _git("worktree", "remove", "--force", tree)
