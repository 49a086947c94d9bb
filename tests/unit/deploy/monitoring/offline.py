"""Files of `deploy` that monitor a job, and the programs that check them without a server."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from reasoner.folders import tools
from tests.support.parts import skip_unless_made
from tests.tidy.rules import ROOT

GRAFANA: Final = ROOT / "deploy" / "grafana"
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = GRAFANA / "rules"
# Grafana's variables in PromQL, with a value of each.
VARIABLES: Final = {"$job": ".*", "$namespace": ".*", "$__rate_interval": "1m"}


def checked(program: str, *arguments: str | Path) -> str:
    """Run promtool or amtool; return its output. It fails with the output, or skips where the program is not there."""
    path = tools() / {"promtool": "prometheus", "amtool": "alertmanager"}[program] / program
    skip_unless_made(path)
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=60)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def alerts() -> list[dict[str, Any]]:
    """Return all alert rules."""
    groups = [group for path in sorted(RULES.glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[tuple[str, list[str]]]:
    """Yield the title of each panel of the boards with its PromQL, with values for Grafana's variables."""
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield panel["title"], [_with_values(target["expr"]) for target in panel["targets"]]


def metrics_in(promql: str) -> set[str]:
    """Return the names of Flink's metrics in an expression."""
    return set(re.findall(r"\bflink_\w+", promql))


def _with_values(promql: str) -> str:
    for name, value in VARIABLES.items():
        promql = promql.replace(name, value)
    return promql
