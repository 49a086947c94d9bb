"""Command line of `reasoner stack`: exit codes and messages."""

import json
from pathlib import Path

import pytest

from reasoner.clients.flink_rest import FlinkRest, JobInfo
from reasoner.commands.stack import refuse_running_jobs
from reasoner.errors import CommandFailed
from tests.support.commands import run


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REASONER_FOLDER", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["stack", "up", "zookeeper"],
            "unknown component zookeeper; there are kafka, postgres, flink, "
            "s3, redis, prometheus, alertmanager, collector\n",
        ),
        (["stack", "up", "--kafka-port", "70000"], "kafka_port is '70000'"),
        (["stack", "up", "--kafka-prot", "1"], "No such option"),
        (["stock"], "unknown command 'stock'; did you mean stack?"),
    ],
)
def test_wrong_use_ends_with_2_and_names_the_right_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert run(monkeypatch, *words) == 2
    assert sentence in capsys.readouterr().err


def test_logs_of_a_stack_that_was_never_started_end_with_1_and_the_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "stack", "logs") == 1
    assert "start with `reasoner stack up`" in capsys.readouterr().err


def test_status_as_json_is_one_object_with_every_component(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "stack", "status", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["folder"] == str(tmp_path)
    assert [part["name"] for part in answer["components"]][:3] == ["kafka", "postgres", "flink-jobmanager"]
    assert {part["state"] for part in answer["components"]} == {"down"}


def test_down_with_nothing_running_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "stack", "down") == 0


def test_components_of_a_running_job_are_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    job = JobInfo("a" * 32, "insights", "RUNNING", 0, -1)
    monkeypatch.setattr(FlinkRest, "overview", lambda rest: [job._replace(name="old", state="FAILED"), job])
    with pytest.raises(
        CommandFailed, match=r"^insights runs on http://f:1: `reasoner stop insights --target http://f:1`"
    ):
        refuse_running_jobs(FlinkRest("http://f:1"))
    monkeypatch.setattr(FlinkRest, "overview", lambda rest: [job._replace(state="FINISHED")])
    refuse_running_jobs(FlinkRest("http://f:1"))
