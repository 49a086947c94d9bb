"""Copies of the source tree in which faults are planted and tests are run; the checkout itself is never changed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.fault import Fault, mutate

RUN_S_MAX: Final = 300.0
TIMED_OUT: Final = -1
_DROPPED: Final = ("NUMBA_CACHE_DIR", "PYTEST_ADDOPTS", "GOLDEN")
_PYTEST: Final = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.origin")


@dataclass(frozen=True, slots=True)
class TestRun:
    """The end of a run of pytest."""

    __test__ = False  # pytest must not collect it by its name

    exit_code: int  # of pytest, or TIMED_OUT
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class TreeCopy:
    """A copy of the repository."""

    root: Path  # its folder, which nothing else uses

    def again(self, root: Path) -> "TreeCopy":
        """Copy the tree once more, with the machine code of its compiled kernels."""
        shutil.copytree(self.root, root)
        return TreeCopy(root)

    def run(self, tests: Sequence[str], *, compiled_anew: bool = False) -> TestRun:
        """Run these tests. compiled_anew: compile the kernels again instead of using the caches of the copy."""
        with tempfile.TemporaryDirectory(prefix="mutants-numba-") as cache:
            env = {name: value for name, value in os.environ.items() if name not in _DROPPED}
            env |= {"PYTHONPATH": str(self.root), "PYTHONHASHSEED": "0", "HYPOTHESIS_PROFILE": "mutants"}
            env |= {"NUMBA_CACHE_DIR": cache} if compiled_anew else {}
            command = [sys.executable, *_PYTEST, *tests]
            began_s = time.monotonic()
            try:
                done = subprocess.run(
                    command, cwd=self.root, env=env, capture_output=True, text=True, check=False, timeout=RUN_S_MAX
                )
            except subprocess.TimeoutExpired:
                return TestRun(TIMED_OUT, RUN_S_MAX, f"no end after {RUN_S_MAX:.0f} s")
            return TestRun(done.returncode, time.monotonic() - began_s, done.stdout + done.stderr)

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """Hold the fault in its file; restore text and time of the file afterwards, because caches compare the time."""
        path = self.root / fault.path
        text, before = path.read_text(), path.stat()
        path.write_text(mutate(fault, text))
        _forget_bytecode(path)
        try:
            yield
        finally:
            path.write_text(text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            _forget_bytecode(path)


def copy_tree(checkout: Path, root: Path) -> TreeCopy:
    """Copy the files that git tracks, and new ones that it does not ignore, as they are in the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        source, target = checkout / name, root / name
        if source.is_file():  # else it was removed and not committed yet
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return TreeCopy(root)


def copy_machine_code(checkout: Path, copy: TreeCopy, compiled: Iterable[str]) -> None:
    """Copy the machine code of the kernels where it is newer than all their modules; compiling takes half a minute.

    compiled: the modules that are compiled into kernels; numba itself checks the file of the kernel alone.
    """
    sources = (checkout / f"{name.replace('.', '/')}.py" for name in compiled)
    newest_ns = max((source.stat().st_mtime_ns for source in sources if source.is_file()), default=0)
    for cached in checkout.glob("udfs/__pycache__/*.nb?"):
        if cached.stat().st_mtime_ns > newest_ns:
            target = copy.root / cached.relative_to(checkout)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(cached, target)


def _forget_bytecode(path: Path) -> None:
    """Remove the bytecode of a file: Python compares size and whole seconds, and would use that of another text."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
