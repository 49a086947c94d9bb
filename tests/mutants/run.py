"""Plants each fault of `faults/*.toml` into a copy of the tree and expects its tests to fail: `make mutants`.

Exit codes: 0 all were killed, 1 one survived or cannot be planted, 2 the tests fail without any fault, or wrong use.
"""

import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from tests.mutants.fault import BadFaults, Fault, misplaced, read_faults
from tests.mutants.tree import TestRun, TreeCopy, copy_machine_code, copy_tree
from tests.tidy.rules import ROOT, import_graph, modules, reaches

WORKERS: Final = 2
OUTPUT_LINES: Final = 15  # last lines of a run that are printed where its end needs an explanation
_PASSED, _FAILED, _INTERRUPTED, _WRONG_USE = 0, 1, 2, 4  # pytest's exit codes


class Verdict(NamedTuple):
    """Result of a fault: `killed`, `SURVIVED`, or `UNDECIDED` where pytest did not get as far as a test."""

    fault: Fault
    word: str
    run: TestRun

    def lines(self) -> Iterator[str]:
        """Yield a line of text, and the place to look at where the fault is not killed."""
        yield f"{self.word:9} {self.run.seconds:6.1f} s  {self.fault.name}"
        if self.word == "SURVIVED":
            yield f"    {self.fault.path}: {self.fault.why}"
            yield f"    no test fails by it: {' '.join(self.fault.killed_by)}"
        elif self.word == "UNDECIDED":
            yield f"    {self.fault.path}: pytest ended with {self.run.exit_code}, expected 1, a test that fails:"
            yield from (f"    {line}" for line in self.run.output.splitlines()[-OUTPUT_LINES:])


def compiled_modules() -> frozenset[str]:
    """Return the modules that are compiled into kernels, as text or constants: the kernels and their imports."""
    graph = import_graph(module for module in modules() if module.room != "tests")
    kernels = [name for name, imported in graph.items() if "udfs.compiled" in imported]
    return frozenset(name for name in graph if name in kernels or any(reaches(top, name, graph) for top in kernels))


def judge(fault: Fault, copy: TreeCopy, compiled: frozenset[str]) -> Verdict:
    """Plant a fault and run the tests that must fail."""
    with copy.planted(fault):
        run = copy.run(fault.killed_by, compiled_anew=fault.module in compiled)
    stopped = run.exit_code in (_INTERRUPTED, _WRONG_USE) and fault.collection_error
    if run.exit_code == _PASSED:
        return Verdict(fault, "SURVIVED", run)
    return Verdict(fault, "killed" if run.exit_code == _FAILED or stopped else "UNDECIDED", run)


def judge_all(faults: Sequence[Fault], copies: Sequence[TreeCopy], compiled: frozenset[str]) -> Iterator[Verdict]:
    """Judge the faults on all copies at once, one fault at a time in each; in the order of the faults."""
    free: SimpleQueue[TreeCopy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def judged(fault: Fault) -> Verdict:
        copy = free.get()
        try:
            return judge(fault, copy, compiled)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(judged, faults)


def chosen(faults: Sequence[Fault], names: Sequence[str]) -> list[Fault]:
    """Choose the faults of these names, or all without a name. Raises BadFaults for an unknown name."""
    if unknown := sorted(set(names) - {fault.name for fault in faults}):
        message = f"no fault is named {', '.join(unknown)}; there are {', '.join(fault.name for fault in faults)}"
        raise BadFaults(message)
    return [fault for fault in faults if not names or fault.name in names]


def kill(faults: Sequence[Fault], folder: Path) -> int:
    """Run the tests without and then with each fault; returns the exit code. folder: for the copies."""
    tests = sorted({test for fault in faults for test in fault.killed_by})
    compiled = compiled_modules()
    first = copy_tree(ROOT, folder / "0")
    copy_machine_code(ROOT, first, compiled)
    plain = first.run(tests)
    if plain.exit_code != _PASSED:
        rest = "\n".join(plain.output.splitlines()[-OUTPUT_LINES:])
        _say(f"{rest}\nthese tests end with {plain.exit_code} without any fault, expected 0: repair them first")
        return 2
    _say(f"{len(tests)} tests or files of tests pass without a fault, {plain.seconds:.1f} s")
    copies = [first, *(first.again(folder / str(number)) for number in range(1, min(WORKERS, len(faults))))]
    killed = 0
    for verdict in judge_all(faults, copies, compiled):
        killed += verdict.word == "killed"
        for line in verdict.lines():
            _say(line)
    _say(f"{killed} of {len(faults)} killed")
    return 0 if killed == len(faults) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults of the command line; returns the exit code."""
    parser = ArgumentParser(prog="python -m tests.mutants.run", description="planted faults that the tests must kill")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="this fault; may be repeated")
    names = parser.parse_args(arguments).only
    try:
        faults = chosen(read_faults(), names)
    except BadFaults as error:
        _say(str(error))
        return 2
    if sentences := misplaced(faults, ROOT):
        _say("\n".join(sentences))
        return 1
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        return kill(faults, Path(folder))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
