"""CPU time and memory of the processes of a run, by role."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

WORKERS: Final = "python workers"
_WORKER_WORD: Final = "pyflink.fn_execution"
_GONE: Final = (psutil.Error, OSError)  # the process has ended since it was listed


@dataclass
class Usage:
    """CPU time and memory by role. A descendant has the role of its root; PyFlink's workers have a role of their own.

    - roots: process id -> role.
    - cpu_s: CPU seconds so far, by role.
    - rss_mb_max: largest sum over the processes of a role, in MiB.
    - all_rss_mb_max: largest sum over all processes, in MiB.

    Memory that processes share is divided among them (the kernel's proportional set size).
    """

    roots: Mapping[int, str]
    cpu_s: dict[str, float] = field(default_factory=dict)
    rss_mb_max: dict[str, float] = field(default_factory=dict)
    all_rss_mb_max: float = 0.0

    def sample(self) -> None:
        """Measure every process of the run once; call it about once a second."""
        cpu, rss = Counter[str](), Counter[str]()
        for process, role in self._processes():
            with suppress(*_GONE):
                spent, memory = process.cpu_times(), process.memory_full_info()
                cpu[role] += spent.user + spent.system
                rss[role] += memory.pss / (1 << 20)
        for role in cpu:
            self.cpu_s[role] = max(self.cpu_s.get(role, 0.0), cpu[role])
            self.rss_mb_max[role] = max(self.rss_mb_max.get(role, 0.0), rss[role])
        self.all_rss_mb_max = max(self.all_rss_mb_max, sum(rss.values()))

    def threads_cpu_s(self) -> dict[tuple[str, str], float]:
        """Return the CPU time of each kind of thread by (role, name).

        Numbers in names are left out; the kernel keeps 15 characters of a name.
        """
        found: dict[tuple[str, str], float] = {}
        for process, role in self._processes():
            for thread in process.threads():
                with suppress(*_GONE):
                    comm = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text()  # psutil has no thread names
                    name = comm.rstrip("-#0123456789/ \n")
                    found[role, name] = found.get((role, name), 0.0) + thread.user_time + thread.system_time
        return found

    def _processes(self) -> Iterator[tuple[Any, str]]:
        """Yield each living process of the run with its role."""
        for pid, role in self.roots.items():
            with suppress(*_GONE):
                root = psutil.Process(pid)
                for process in (root, *root.children(recursive=True)):
                    with suppress(*_GONE):
                        yield process, WORKERS if any(_WORKER_WORD in word for word in process.cmdline()) else role
