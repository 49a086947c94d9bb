"""README followed by a new user with own services and a real Collector: five faults, and a restore in between.

Each command is typed as README has it, in a fresh clone; only ports are others. What must hold is asserted. Which of
the faults is found, when and in which words are figures of the verdict.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from reasoner.clients import lake
from reasoner.clients.insight_topic import hidden
from reasoner.waiting import wait_until
from state_schemas.contracts.tables import RESOLUTIONS_S
from tests.faults.trial_figures import counted, courses, found, outputs
from tests.faults.trial_machine import LASTS_S, Machine, wait_until_s
from tests.faults.trial_shell import Reader
from tests.services.job_runs import ClusterJob
from tests.support.components import skip_unless_set_up, skip_without_postgres
from tests.support.parts import OTELCOL, SHOP_PYTHON
from tests.support.readme import command_blocks

pytestmark = pytest.mark.trial

FIRST_ROW_MAX_S = 600.0
# Seconds after the shop has opened: an operation is compared after five minutes and the allowed lateness, and a pattern
# can be new after ten minutes of its service.
F1_AT_S, F2_AT_S = 480.0, 750.0
UNREAD_S = 60.0  # spans that ended so long before the job is stopped were sent and read before
# A fault is found if an insight of one of these services begins in it. That F4 is found, and the mailer in F5, is
# not demanded.
FOUND_AT: Final = {"F1": {"catalog"}, "F2": {"orders"}, "F3": {"mailer"}, "F5": {"pricing"}}
# What the settings of another job have instead -> the command that must be refused, and a word of its sentence.
WRONG: Final = {
    "topic missing": ("name: other\nkafka: {topics: {traces: no_such}}", "submit {file} --target {rest}", "no_such"),
    "sink topic missing": ("kafka: {topics: {insights: no_such}}", "insights list {file}", "no_such"),
    "unknown setting": ("kafka: {bootstrap_server: x}", "submit {file} --target {rest}", "bootstrap_server"),
    "wrong port": (
        "lake: {uri: 'jdbc:postgresql://127.0.0.1:1/lake', warehouse: 'file:///w'}",
        "tables create {file}",
        "lake",
    ),
    "wrong savepoint": ("name: other", "submit {file} --target {rest} --savepoint file:///no/such", "savepoint"),
    "cluster that is not up": ("", "jobs --target http://127.0.0.1:1", "127.0.0.1:1"),
}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Clone the checkout; at the end the stack is stopped."""
    skip_unless_set_up()
    skip_without_postgres()
    missing = [str(product) for product in (OTELCOL, SHOP_PYTHON) if not product.exists()]
    assert not missing, f"{missing} are missing: `make trial` makes them"
    made = Machine(tmp_path)
    yield made
    if (made.clone / ".run").exists():
        made.shell.run("reasoner stack down --force")


def test_trial(machine: Machine, verdict: dict[str, Any]) -> None:
    start, reading = map(machine.here, command_blocks())
    with ExitStack() as readers:
        with ExitStack() as telemetry:
            began_s = time.time()
            machine.shell.run(start)
            verdict["job_submitted_after_s"] = round(time.time() - began_s)
            first = machine.job()
            machine.with_collector(telemetry)
            open_s = machine.with_shop(telemetry)
            wait_until(lambda: own_rows(first), "a row of the storefront in latency_rollups", FIRST_ROW_MAX_S, 2.0)
            verdict["first_own_row_after_s"] = round(time.time() - began_s)
            reader = Reader(machine.kafka, first.config.kafka.topics.insights)
            readers.callback(reader.close)
            tail = [str(machine.clone / ".venv/bin/reasoner"), "insights", "tail", "--config", "job.yaml"]
            log = machine.folder / "tail.log"
            readers.enter_context(machine.shell.beside(tail, log, signal.SIGINT))
            verdict["sentences"] = refusals(machine)
            read(machine, reading)
            wait_until_s(open_s + F1_AT_S)
            played = {"F1": machine.play("F1")}
            verdict["restore"] = stop_and_go_on(machine, reading, reader)
            wait_until_s(open_s + F2_AT_S)
            played |= {fault: machine.play(fault) for fault in list(LASTS_S)[1:]}
            read(machine, reading)
            last = machine.job()
            verdict["checkpoints"] = machine.rest.get(f"/jobs/{last.job_id}/checkpoints/config")["checkpoint_storage"]
            verdict["restarts"] = [machine.rest.restarts(job.job_id) for job in (first, last)]
            whole_ms = 300_000 * int((time.time() - UNREAD_S) // 300)
            machine.shell.run(f"reasoner stop insights --target {machine.rest.url} --drain")
            closed_s = time.time()
        lines = 2 * len(last.insight_records())
        wait_until(lambda: len(log.read_text().splitlines()) >= lines, f"tail has printed {lines} lines", 30.0)
    verdict |= {"found": found(played, reader.seen), "load_average": machine.load}
    verdict |= counted(last, whole_ms)
    verdict["spans_per_second"] = round(verdict["spans"] / (closed_s - open_s))
    verdict |= courses(reader.seen) | outputs(machine.shell)
    verdict["gone"] = gone(verdict)
    machine.shell.run("reasoner stack down")
    demand(verdict)
    verdict["pass"] = True


def own_rows(job: ClusterJob) -> int:
    """Return the number of roll-ups of the storefront."""
    return len(lake.read(job.config.lake, "latency_rollups", row_filter="service = 'storefront'"))


def refusals(machine: Machine) -> dict[str, str]:
    """Type what cannot work; return the sentence of each, which says what is wrong, without a stack of calls."""
    here, answers = f"--config job.yaml --target {machine.rest.url}", {}
    answers["second submit"] = machine.shell.run(f"reasoner submit {here}", fails=True)
    assert "insights" in answers["second submit"]
    answers["stack down under a job"] = machine.shell.run("reasoner stack down", fails=True)
    assert "reasoner stop insights" in answers["stack down under a job"]
    settings = (machine.clone / "job.yaml").read_text()
    for what, (change, command, word) in WRONG.items():
        path = machine.folder / "wrong.yaml"
        path.write_text(changed(settings, change))
        typed = command.format(file=f"--config {path}", rest=machine.rest.url)
        answers[what] = machine.shell.run(f"reasoner {typed}", fails=True)
        assert word in answers[what], answers[what]
    assert [job.name for job in machine.rest.overview() if job.is_active] == ["insights"]
    return {what: " ".join(answer.split()).replace(str(machine.folder), "…") for what, answer in answers.items()}


def changed(settings: str, change: str) -> str:
    """Return the YAML file with the lines of a change, each in place of the section or value of its name."""
    merged = yaml.safe_load(settings)
    for name, value in (yaml.safe_load(change) or {}).items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return yaml.safe_dump(merged)


def read(machine: Machine, reading: str) -> None:
    """Type README's commands for reading, but the one that does not end and the one that stops the job."""
    lines = [line for line in reading.splitlines() if not line.startswith(("reasoner insights tail", "reasoner stop"))]
    assert len(lines) >= 4
    for line in lines:
        machine.shell.run(line)
    machine.shell.run("reasoner insights list --config job.yaml --since 30m --service catalog --kind latency_spike")
    machine.shell.run("reasoner insights summary --config job.yaml")
    machine.shell.run(f"reasoner savepoint insights --target {machine.rest.url}")
    machine.shell.run("reasoner stack status")


def stop_and_go_on(machine: Machine, reading: str, reader: Reader) -> dict[str, Any]:
    """Stop the job when insights have just closed, and go on from its savepoint."""
    wait_until(lambda: [seen for seen in reader.seen if seen.insight.status == "closed"], "an insight closes", 300.0)
    (stop,) = [line for line in reading.splitlines() if line.startswith("reasoner stop")]
    began_s = time.time()
    machine.shell.run(stop)
    closed = {seen.insight.insight_id for seen in reader.seen if seen.insight.status == "closed"}
    machine.shell.run(f"reasoner submit --config job.yaml --target {machine.rest.url} --savepoint latest")
    job = machine.job()
    checkpoints = f"/jobs/{job.job_id}/checkpoints"
    wait_until(lambda: machine.rest.get(checkpoints)["counts"]["completed"], "a checkpoint after the restore", 180.0)
    took_s = round(time.time() - began_s)
    topic = job.config.kafka.topics.insights
    wait_until(lambda: not hidden(machine.kafka, topic), "readers see the end of the topic", 90.0, 1.0)
    return {"closed_before": sorted(closed), "to_the_next_checkpoint_s": took_s}


def gone(figures: dict[str, Any]) -> dict[str, bool]:
    """Return which faults of the first such trial do not occur, each with how that is seen."""
    restored, tail = figures["restore"]["closed_before"], figures["tail"]
    again = [figures[name] for name in ("revisions_twice", "revisions_after_closed", "opened_twice")]
    return {
        "1: no restart, and a job without its topics is refused": figures["restarts"] == [0, 0],
        "2: a second job of the name is refused, and each span is counted once": (
            figures["spans_in_rollups"] == dict.fromkeys(RESOLUTIONS_S, figures["spans_in_whole_windows"])
        ),
        "6: insights that had closed before the savepoint do not come again": bool(restored) and not any(again),
        "9: checkpoints are on disk, and the stack does not end under a job": (
            figures["checkpoints"] == "FileSystemCheckpointStorage"
        ),
        "10: tail shows time, severity, status and id of each revision once": (
            tail == {"revisions": figures["revisions"], "without_time_severity_status_id": 0, "said_twice": 0}
        ),
        "11: no output of a command has a traceback": not figures["with_a_traceback"],
        "12: README's commands lead to an own row within ten minutes": (
            figures["first_own_row_after_s"] <= FIRST_ROW_MAX_S
        ),
    }


def demand(figures: dict[str, Any]) -> None:
    """Assert what must hold, whatever is found of the fault F4 and of the mailer in F5."""
    assert not [fault for fault, is_gone in figures["gone"].items() if not is_gone]
    assert (figures["revisions_without_news"], figures["dead_letters"]) == (0, 0)
    assert not [fault for fault, services in FOUND_AT.items() if not services & named(figures["found"], fault)]


def named(entries: dict[str, list[dict[str, Any]]], fault: str) -> set[str]:
    """Return the services with an insight that begins while the fault lasts."""
    return {entry["service"] for entry in entries[fault] if entry["begins_after_s"] < LASTS_S[fault]}
