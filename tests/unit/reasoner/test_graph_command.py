"""`reasoner graph` prints the graph that `wire` draws."""

import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.graph import JOBS
from jobs.sinks import SHIPPED, rows_of
from operators.runtime import flink_graph
from operators.runtime.routing import fold_uid
from reasoner.cli import main


class Stream:
    """What PyFlink's streams are to `wire`: a step with inputs, that gets a name."""

    def __init__(self, uid: str, inputs: Sequence[tuple[str, str]] = ()) -> None:
        self.step, self.inputs = uid, inputs

    def process(self, machine: Any, output_type: Any) -> "Stream":
        return self

    def name(self, name: str) -> "Stream":
        return self

    def uid(self, uid: str) -> "Stream":
        self.step = uid
        wired.update((giver, uid) for giver, tag in self.inputs if tag == f"to-{uid}")
        return self


wired: set[tuple[str, str]] = set()


def edges_wired(job: str, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Every pair of steps that `wire` connects, sinks by the uids of their inserts."""
    monkeypatch.setattr(flink_graph, "_keyed", lambda inputs: Stream("", inputs))
    monkeypatch.setattr(flink_graph, "_side_output", lambda stream, tag: (stream.step, tag.tag_id))
    wired.clear()
    stages = JOBS[job].stages(JOBS[job].default_config)
    folds: Any = SimpleNamespace(is_ruled=False)
    folded: Any = {stage.signal: (folds, Stream(fold_uid(stage.signal))) for stage in stages if stage.signal}
    rows: Any = flink_graph.wire(flink_graph.Sources(folded), stages, rows_of(SHIPPED), JOBS[job].unused)
    return wired | {(giver, insert.uid) for insert in SHIPPED for giver, _ in rows[insert.rows.name]}


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["reasoner", "graph", *words])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("job", JOBS)
def test_what_is_printed_is_what_is_wired(
    job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = edges_wired(job, monkeypatch)
    head, *rows = (line.split() for line in printed(capsys, monkeypatch, "--job", job))
    assert head == ["STEP", "KEY", "TAKES", "GIVES", "TO"]
    assert {(row[0], to) for row in rows for to in row[4].split(",") if to != "dropped"} == expected
    assert {row[3] for row in rows if row[4] == "dropped"} == {unused.__name__ for unused in JOBS[job].unused}
    drawn = [line.split('"') for line in printed(capsys, monkeypatch, "--job", job, "--dot") if "->" in line]
    assert {(parts[1], parts[3]) for parts in drawn} == expected


def test_a_row_names_key_and_inputs_of_its_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [line.split() for line in printed(capsys, monkeypatch)]
    assert ["latency-spike", "env|service", "SpanAggregate", "RollupRow", "lake-rollups"] in rows
    assert ["fold-logs", "-", "OTLP", "FoldedMessage", "pre-aggregate-logs"] in rows


def test_an_unknown_job_is_wrong_use(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["reasoner", "graph", "--job", "incidents"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert "unknown job 'incidents'; there are insights, latency-spikes, error-patterns" in capsys.readouterr().err


def test_the_command_loads_no_module_of_the_engine() -> None:
    code = (
        "import sys\nfrom reasoner.cli import main\n"
        "try:\n    main()\nfinally:\n    print(sorted(name for name in sys.modules if name.startswith('pyflink')))"
    )
    done = subprocess.run([sys.executable, "-c", code, "graph"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
