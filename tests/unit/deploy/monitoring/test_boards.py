"""Boards of Grafana: the committed ones are those of their descriptions, and Prometheus reads each expression."""

import subprocess
from pathlib import Path

import yaml

from reasoner.folders import tools
from tests.support.parts import skip_unless_made
from tests.unit.deploy.monitoring.offline import GRAFANA, checked, panels


def test_the_committed_boards_are_those_of_their_descriptions(tmp_path: Path) -> None:
    python = tools() / "boards" / "bin" / "python"
    skip_unless_made(python)
    subprocess.run([python, GRAFANA / "boards.py", tmp_path], check=True, timeout=60)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in (GRAFANA / "dashboards").iterdir()}


def test_prometheus_reads_each_expression_of_the_boards(tmp_path: Path) -> None:
    rules = [{"record": "checked", "expr": promql} for _, expressions in panels() for promql in expressions]
    assert len(rules) > 40
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    checked("promtool", "check", "rules", "--lint=none", path)


def test_no_two_panels_have_one_title() -> None:
    titles = [title for title, _ in panels()]
    assert len(set(titles)) == len(titles)


def test_each_expression_about_flink_asks_for_the_namespaces_and_jobs_that_are_chosen() -> None:
    text = (GRAFANA / "job-health.yaml").read_text()
    expressions = [
        query["promql"]
        for row in yaml.safe_load(text)["rows"]
        for panel in row["panels"]
        for query in panel["queries"]
        if "flink_" in query["promql"]
    ]
    of_jobs = [promql for promql in expressions if "_job_" in promql]
    assert len(of_jobs) > 30
    assert [promql for promql in of_jobs if 'job_name=~"$job"' not in promql] == []
    assert [promql for promql in expressions if 'namespace=~"$namespace"' not in promql] == []
