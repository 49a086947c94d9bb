"""The table of docs/checked.md: each file that deploys or monitors a job, and what checked it, and when.

Run by `make checked`. A file has all checks whose patterns match it; one that has none is a fault, found by
tests/tidy/test_checked.py.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from reasoner.folders import tools

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "checked.md"
PLACES: Final = ("docker-compose.yml", ".env.example", "k8s-operator", "flink-conf", "deploy")
_HEAD: Final = """\
# What checked the files that deploy a job

Written by `make checked`. A command: at each run of it, where the tool is there; `make check-deploy`, which CI runs,
makes all tools of `tests/unit/deploy`. A date is that of the verdict file of
a run, beside the commit that ran. `unchecked`: what nothing checks that can be had where this project is tested.

| file | checked by | unchecked |
|---|---|---|
"""


@dataclass(frozen=True)
class Check:
    """What checks the files that match a pattern; `*` matches any text.

    - test: file of the test; "" where nothing checks what `tool` says, with the reason.
    - tool: program or library with its version, or one of `TOOLS`.
    - verdict: name of the file in docs/verdicts, without suffix; "" where `command` alone says when.
    """

    patterns: tuple[str, ...]
    test: str
    tool: str
    verdict: str = ""
    command: str = "`make test`"


# Tools whose version depends on the machine: program in .tools.
TOOLS: Final = {
    "promtool": "prometheus/promtool",
    "Prometheus": "prometheus/prometheus",
    "Collector": "collector/otelcol",
}

_RULES: Final = "tests/unit/deploy/monitoring/test_rules.py"
_BOARDS: Final = "tests/unit/deploy/monitoring/test_boards.py"
_MONITORING: Final = "tests/deploy/monitoring/test_monitoring.py"
_FLINK_CONF: Final = "tests/unit/deploy/flink_conf/test_flink_conf.py"
_DASHBOARD: Final = "tests/deploy/dashboard/test_dashboard_submission.py"
_COLLECTOR_FILES: Final = "tests/unit/deploy/collector/test_configurations.py"
_COLLECTOR: Final = "tests/deploy/collector/test_collector.py"
_LOKI: Final = "tests/deploy/collector/test_loki.py"
_MANIFESTS: Final = "tests/unit/deploy/k8s/test_manifests.py"
_OVERLAYS: Final = "tests/unit/deploy/k8s/test_overlays.py"
_API_SERVER: Final = "tests/deploy/k8s/test_api_server.py"
_KUBERNETES: Final = "tests/deploy/k8s/test_kubernetes.py"
_COMPOSE: Final = "tests/deploy/compose/test_compose.py"
_COMPOSE_FILE: Final = "tests/unit/deploy/compose/test_compose_file.py"
_IMAGES: Final = "tests/unit/deploy/compose/test_images.py"
# Files of k8s-operator that the test with the real operator applies, and its substitutes for nodes leave out.
_APPLIED: Final = (
    *(f"k8s-operator/{folder}/*" for folder in ("base", "common", "template", "jobs/insights")),
    "*/overlays/dev/*",
)
_OF_NODES: Final = ("*/network-policies.yaml", "*/disruption-budgets.yaml", "k8s-operator/collector*")

CHECKS: Final[Sequence[Check]] = (
    Check(("deploy/grafana/rules/*.yaml", "deploy/prometheus/prometheus.yml"), _RULES, "promtool"),
    Check(("deploy/grafana/rules/*.yaml", "deploy/prometheus/prometheus.yml"), _MONITORING, "Prometheus", "monitoring"),
    Check(("deploy/prometheus/targets/*",), _RULES, "promtool"),
    Check(("deploy/prometheus/targets/*",), "", "that the names are those of services"),
    Check(("deploy/prometheus/alertmanager.yml",), _RULES, "amtool 0.29.0"),
    Check(("deploy/prometheus/alertmanager.yml",), _MONITORING, "Alertmanager 0.29.0", "monitoring"),
    Check(("deploy/grafana/dashboards/*.json",), _BOARDS, "promtool"),
    Check(("deploy/grafana/dashboards/*.json",), _MONITORING, "Prometheus", "monitoring"),
    Check(("deploy/grafana/dashboards/*.json",), "", "how it looks: no Grafana server can be had"),
    Check(("deploy/grafana/job-health.yaml", "deploy/grafana/boards.py"), _BOARDS, "grafana-foundation-sdk 11.6.0"),
    Check(("deploy/grafana/provisioning/*",), "", "no Grafana server can be had"),
    Check(("flink-conf/*.yaml", "flink-conf/*.properties"), _FLINK_CONF, "Flink 2.2.1"),
    Check(("flink-conf/config.yaml", "flink-conf/local.yaml"), "tests/services/test_stack.py", "Flink 2.2.1"),
    Check(("flink-conf/kustomization.yaml", "deploy/collector/kustomization.yaml"), _MANIFESTS, "kubectl kustomize"),
    Check(("deploy/collector/agent.yaml", "deploy/collector/agent-k*.yaml"), _COLLECTOR_FILES, "Collector"),
    Check(("deploy/collector/gateway*.yaml", "deploy/collector/[cr]*r.yaml"), _COLLECTOR_FILES, "Collector"),
    Check(("deploy/collector/builder.yaml",), _COLLECTOR_FILES, "the files that use its modules"),
    Check(("deploy/collector/go.*",), _COLLECTOR, "Collector", "collector"),
    Check(("deploy/collector/agent.yaml", "deploy/collector/gateway.yaml"), _COLLECTOR, "Collector", "collector"),
    Check(
        ("deploy/collector/haproxy.cfg", "deploy/collector/certificates.sh"),
        _COLLECTOR,
        "HAProxy, OpenSSL",
        "collector",
    ),
    Check(("deploy/collector/agent-docker.yaml",), "", "the receiver docker_stats: it cannot be built"),
    Check(("deploy/collector/gateway-observability.yaml",), "", "Tempo and Mimir themselves: they cannot be had"),
    Check(("deploy/collector/collector.yaml",), "tests/faults/test_trial.py", "Collector", "trial"),
    Check(("k8s-operator/[cmop]*",), _OVERLAYS, "rules of ours"),
    Check(("k8s-operator/*",), _MANIFESTS, "schemas of Kubernetes and CRDs, DefaultValidator of the operator"),
    Check(("k8s-operator/*",), _API_SERVER, "kube-apiserver 1.36 (dry run)", command="`make test-k8s`"),
    Check(_APPLIED, _KUBERNETES, "kube-apiserver, the operator", "kubernetes"),
    Check(_OF_NODES, "", "how nodes keep it: there is no kubelet"),
    Check(("docker-compose.yml", ".env.example", "deploy/compose/*"), _COMPOSE_FILE, "compose-go, Compose's parser"),
    Check(("docker-compose.yml", ".env.example", "deploy/compose/*"), _COMPOSE, "podman-compose", "compose"),
    Check(("docker-compose.yml",), "", "Docker itself, public images, profile observability as containers"),
    Check(("deploy/images/*",), _IMAGES, "rules of ours"),
    Check(("deploy/images/job/*",), _COMPOSE, "buildah", "compose"),
    Check(("deploy/observability/loki.yaml",), "tests/unit/deploy/observability/test_loki.py", "Loki 3.7.8"),
    Check(("deploy/observability/loki.yaml", "deploy/collector/gateway-o*.yaml"), _LOKI, "Loki 3.7.8", "loki"),
    Check(("deploy/observability/[mt]*.yaml",), "", "Tempo and Mimir are not run"),
    Check(("*/README.md",), "docs/hooks.py", "mkdocs 1.6.1 (links)", command="`make docs`"),
)


def files() -> list[str]:
    """Return the files of the table, committed or not, without those that git ignores."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PLACES)
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted({name for name in found if (ROOT / name).exists()})


def checks_of(file: str) -> list[Check]:
    """Return the checks of a file."""
    return [check for check in CHECKS if any(fnmatchcase(file, pattern) for pattern in check.patterns)]


def lines() -> Iterator[str]:
    """Yield the rows of the table."""
    for file in files():
        checks = checks_of(file)
        done = "<br>".join(_done(check) for check in checks if check.test)
        lacking = "<br>".join(check.tool for check in checks if not check.test)
        yield f"| [{file}](../{file}) | {done} | {lacking} |"


def _done(check: Check) -> str:
    return f"[{Path(check.test).name}](../{check.test}) with {_with_version(check.tool)}, {_when(check)}"


def _with_version(tool: str) -> str:
    program = tools() / TOOLS.get(tool, "")
    if tool not in TOOLS or not program.exists():
        return tool
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    words = (done.stdout + done.stderr).replace(",", " ").split()
    return f"{tool} {next(word for word in words if word[0].isdigit())}"


def _when(check: Check) -> str:
    if not check.verdict:
        return check.command
    path = ROOT / "docs" / "verdicts" / f"{check.verdict}.json"
    if not path.exists():
        return "not yet"
    found = json.loads(path.read_text())
    dated = ("git", "log", "-1", "--format=%cs", "--", str(path))
    date = subprocess.run(dated, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() or "not committed"
    outcome = "" if found["pass"] else ", **failed**"
    return f"[{date} at {found['commit']}](verdicts/{check.verdict}.json){outcome}"


if __name__ == "__main__":
    DOCUMENT.write_text(_HEAD + "\n".join(lines()) + "\n")
