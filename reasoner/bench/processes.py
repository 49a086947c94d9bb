"""CPU time and memory of the processes of a run, by what they are, from /proc."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
WORKERS: Final = "python workers"
_WORKER_WORD: Final = b"pyflink.fn_execution"


@dataclass
class Usage:
    """roots: process id -> role; a descendant has its root's role, PyFlink's workers one of their own.

    cpu_s: used so far; rss_mb_max: largest sum over the processes of a role; all_rss_mb_max: over all of them. Memory
    that processes share is divided among them (the kernel's proportional set size).
    """

    roots: Mapping[int, str]
    cpu_s: dict[str, float] = field(default_factory=dict)
    rss_mb_max: dict[str, float] = field(default_factory=dict)
    all_rss_mb_max: float = 0.0

    def sample(self) -> None:
        """Looks once at every process of the run; call it about once a second."""
        cpu: dict[str, float] = {}
        rss: dict[str, float] = {}
        for pid, role in self._roles().items():
            try:
                fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
                megabytes = _pss_mb(pid)
            except OSError:
                continue  # it has ended in between
            cpu[role] = cpu.get(role, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            rss[role] = rss.get(role, 0.0) + megabytes
        for role, seconds in cpu.items():
            self.cpu_s[role] = max(self.cpu_s.get(role, 0.0), seconds)
        for role, megabytes in rss.items():
            self.rss_mb_max[role] = max(self.rss_mb_max.get(role, 0.0), megabytes)
        self.all_rss_mb_max = max(self.all_rss_mb_max, sum(rss.values()))

    def threads_cpu_s(self) -> dict[tuple[str, str], float]:
        """CPU time of each kind of thread by (role, name), numbers in names left out; the kernel knows 15 letters."""
        found: dict[tuple[str, str], float] = {}
        for pid, role in self._roles().items():
            for task in (Path("/proc") / str(pid) / "task").glob("*"):
                try:
                    before, _, after = (task / "stat").read_text().rpartition(")")
                except OSError:
                    continue  # it has ended in between
                name = before.partition("(")[2].rstrip("-#0123456789/ ")
                fields = after.split()
                spent_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
                found[role, name] = found.get((role, name), 0.0) + spent_s
        return found

    def _roles(self) -> dict[int, str]:
        parents: dict[int, int] = {}
        workers: set[int] = set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    if _WORKER_WORD in (folder / "cmdline").read_bytes():
                        workers.add(int(folder.name))
                except OSError:
                    continue
        roles = {}
        for pid in parents:
            above = pid
            while above in parents and above not in self.roots:
                above = parents[above]
            if above in self.roots:
                roles[pid] = WORKERS if pid in workers else self.roots[above]
        return roles


def _pss_mb(pid: int) -> float:
    lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
