"""Programs of which a part of the setup makes each, and what a test does without one."""

from pathlib import Path
from typing import Final

import pytest

from reasoner.folders import tools

OTELCOL: Final = tools() / "collector" / "otelcol"
HAPROXY: Final = tools() / "haproxy" / "haproxy"
LOKI: Final = tools() / "loki" / "loki"
PROMETHEUS: Final = tools() / "prometheus" / "prometheus"
SHOP_PYTHON: Final = tools() / "shop" / "bin" / "python"


def skip_unless_made(*programs: Path) -> None:
    """Skip with the command that makes the first one that is missing; each lies in the folder of its part."""
    for program in programs:
        if not program.exists():
            part = program.relative_to(tools()).parts[0]
            pytest.skip(f"{program} is missing: run `reasoner/stack/setup.sh {part}`")
