"""Alert rules: each says in plain words what is wrong and where to read on, fires on its fault, and on no other."""

import re
from pathlib import Path

import pytest
import yaml

from state_schemas.contracts.counters import REJECTED
from tests.tidy.rules import ROOT
from tests.unit.deploy.monitoring.offline import PROMETHEUS, RULES, alerts, checked

CASES = Path(__file__).parent
COUNTER = re.compile(r"flink_taskmanager_job_task_operator_(\w+_total)")


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings of a document, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_each_alert_has_a_severity_a_sentence_and_an_entry_in_the_runbook() -> None:
    faults = []
    for rule in alerts():
        document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        if anchor not in anchors(ROOT / document):
            faults.append(f"{rule['alert']}: {document} has no heading {anchor}")
        if rule["labels"].get("severity") not in ("critical", "warning", "info"):
            faults.append(f"{rule['alert']}: severity is {rule['labels']}")
        if not re.fullmatch(r"\S.{20,}\.", rule["annotations"]["summary"]):
            faults.append(f"{rule['alert']}: its summary is no sentence")
    assert not faults, "\n".join(faults)


def test_no_name_of_an_alert_is_used_twice() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    assert all(name.startswith("MetricReasoner") for name in names)


def test_each_counter_that_the_documents_say_to_watch_has_an_alert() -> None:
    watched = {counter for rule in alerts() for counter in COUNTER.findall(rule["expr"])}
    limits = re.findall(r"^\| `(\w+_total)` \|", (ROOT / "docs" / "sizing.md").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `(\w+_total)` \|.*\| (.*) \|$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    # Those whose next step is `none` need no one to look, and two have a share or a fall that boards show.
    shown = {"calls_paired_total", "insights_emitted_total"}
    acted_on = {name for name, step in rows if not step.startswith("none")} - shown
    assert limits
    assert acted_on
    assert set(limits) | acted_on <= watched
    # By reason there is the sum; a board shows the reasons.
    assert set(REJECTED.values()) & watched == {"rejected_too_large_total", "rejected_invalid_insight_total"}


def test_nothing_about_jobs_mixes_namespaces() -> None:
    """Each aggregation and each match of labels keeps them: `dev` and `prod` have jobs of one name."""
    texts = [rule["expr"] for rule in alerts() if "flink_" in rule["expr"]]
    labels = [found for text in texts for found in re.findall(r"\b(?:by|on) \(([^)]*)\)", text)]
    assert len(labels) > 40
    assert [found for found in labels if not found.startswith("namespace, ")] == []
    alertmanager = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())
    assert "namespace" in alertmanager["route"]["group_by"]
    assert [rule for rule in alertmanager["inhibit_rules"] if "namespace" not in rule["equal"]] == []


def test_labels_of_host_metrics_are_those_that_the_gateway_keeps() -> None:
    """Remote write makes labels of the resource's attributes that are left, and of those of the point."""
    gateway = yaml.safe_load((ROOT / "deploy/collector/gateway-observability.yaml").read_text())
    statements = gateway["processors"]["transform/series"]["metric_statements"]
    (kept,) = [statement for statement in statements if statement.startswith("keep_keys(")]
    of_resource = {name.replace(".", "_") for name in re.findall(r'"([\w.]+)"', kept)}
    of_point = {"device", "mode", "mountpoint", "type", "state"}  # of the Collector's scraper `filesystem`
    texts = [(RULES / "disk.yaml").read_text(), (RULES.parent / "job-health.yaml").read_text()]
    assert set(re.findall(r"\$labels\.(\w+)", texts[0])) <= of_resource | of_point
    (legend,) = re.findall(r"legend: '(.*)'\n.*system_filesystem", texts[1])
    shown = re.findall(r"{{(\w+)}}", legend)
    assert shown
    assert set(shown) <= of_resource | of_point


def test_the_collectors_that_kubernetes_counts_are_those_of_the_manifests() -> None:
    texts = [file.read_text() for file in (ROOT / "k8s-operator" / "collector").glob("*.yaml")]
    objects = [one for text in texts for one in yaml.safe_load_all(text)]
    made = {(one["kind"].lower(), one["metadata"]["name"]) for one in objects if "metadata" in one}
    (rule,) = [rule for rule in alerts() if "kube_" in rule["expr"]]
    counted = set(re.findall(r'(daemonset|statefulset)="([\w-]+)"', rule["expr"]))
    assert len(counted) == 2
    assert counted <= made


def test_prometheus_reads_rules_and_configuration(tmp_path: Path) -> None:
    assert "FAILED" not in checked("promtool", "check", "rules", *sorted(RULES.glob("*.yaml")))
    checked("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_alertmanager_reads_its_configuration() -> None:
    checked("amtool", "check-config", PROMETHEUS / "alertmanager.yml")


@pytest.mark.parametrize("name", ["job", "collector"])
def test_an_alert_fires_on_its_fault_and_no_other_does(name: str, tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text((CASES / f"{name}_alerts.yaml").read_text().replace("RULES", str(RULES)))
    checked("promtool", "test", "rules", cases)


def test_an_alert_about_a_limit_fires_on_its_counter_alone_and_not_on_what_was_counted_an_hour_ago(
    tmp_path: Path,
) -> None:
    """Each counter has a step of its own here, so that an alert on another one's counter would show."""
    limits = yaml.safe_load((RULES / "limits.yaml").read_text())["groups"][0]["rules"]
    counters = {rule["alert"]: COUNTER.findall(rule["expr"])[0] for rule in limits}
    fires = [
        {"labels": f'{{alertname="{alert}", namespace="b", job_name="a", operator_name="{counter}"}}', "value": 1}
        for alert, counter in counters.items()
    ]
    expression = 'count by (alertname, namespace, job_name, operator_name) (ALERTS{alertstate="firing"})'
    case = {
        "name": "each counter has its first number after 20 minutes, grows for 25, and stands still",
        "interval": "1m",
        "input_series": [
            {
                "series": f"flink_taskmanager_job_task_operator_{counter}"
                f'{{namespace="b", job_name="a", operator_name="{counter}"}}',
                "values": "_x19 3+1x25 28x60",
            }
            for counter in counters.values()
        ],
        "promql_expr_test": [
            {"expr": expression, "eval_time": "19m", "exp_samples": []},
            {"expr": expression, "eval_time": "40m", "exp_samples": fires},
            {"expr": expression, "eval_time": "80m", "exp_samples": []},
        ],
    }
    cases = tmp_path / "cases.yaml"
    text = {"rule_files": [str(RULES / "limits.yaml")], "evaluation_interval": "1m", "tests": [case]}
    cases.write_text(yaml.safe_dump(text))
    checked("promtool", "test", "rules", cases)
