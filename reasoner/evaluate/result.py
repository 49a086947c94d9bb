"""The one object that every evaluation and benchmark prints last."""

import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reasoner.stack.environment import checkout


@dataclass(frozen=True, slots=True)
class Result:
    """scores: flat numbers under their published names. detail: one entry for each case."""

    what: str
    setting: str
    scores: dict[str, float]
    detail: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """With the machine and the commit that it was measured on."""
        return {**asdict(self), "machine": machine(), "commit": commit()}


def machine() -> str:
    """Processor, cores and memory in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    total_kb = int(Path("/proc/meminfo").read_text().split()[1])
    cores = sum(line.startswith("processor") for line in lines)
    return f"{model}, {cores} cores, {total_kb / 2**20:.0f} GiB, Python {platform.python_version()}"


def commit() -> str:
    """The checkout's commit, with `+` where files differ from it; `unknown` outside a checkout."""
    command = ["git", "-C", str(checkout()), "describe", "--always", "--dirty=+", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
