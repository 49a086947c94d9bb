"""Result of an evaluation or a benchmark, printed as its last output."""

import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from reasoner.folders import checkout


@dataclass(frozen=True, slots=True)
class Result:
    """A result. scores: numbers under their published names. detail: one entry for each case."""

    what: str
    setting: str
    scores: dict[str, float]
    detail: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the result with the machine and the commit on which it was measured."""
        return {**asdict(self), "machine": machine(), "commit": commit()}


def machine() -> str:
    """Return processor, cores and memory in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{model}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def commit() -> str:
    """Return the commit of the checkout, with `+` if files differ from it; `unknown` outside a checkout."""
    root = checkout()
    if root is None:
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
