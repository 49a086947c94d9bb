"""Submission of a job: what is looked at first, and where the job begins."""

from pathlib import Path

import pytest
import yaml

from jobs.settings import JobConfig
from reasoner.clients import lake
from reasoner.clients.flink_rest import FlinkRest
from reasoner.clients.topic_samples import TopicState
from reasoner.clients.transactions import OpenTransaction
from reasoner.errors import CommandFailed, WrongUse
from reasoner.runs import journal, preflight, savepoints
from reasoner.runs import orphans as left
from reasoner.runs.submit import Submission
from state_schemas.contracts.settings import ReaderConfig, load
from state_schemas.contracts.tables import TABLES
from tests.support.answering_cluster import JOB, OLD, OTHER, Cluster

ON_DISK = {"execution.checkpointing.dir": "file:///var/checkpoints"}


def test_a_job_that_can_work_is_not_refused_and_checkpoints_in_the_heap_are_a_note(file: Path) -> None:
    (note,) = Submission("insights", file).preflight(Cluster(OTHER))
    assert "in the heap of the JobManager" in note
    assert Submission("insights", file).preflight(Cluster(OTHER, config=ON_DISK)) == []


def test_where_a_job_begins_is_a_note_where_it_has_run_before(file: Path) -> None:
    again = Cluster(OLD, config=ON_DISK)
    (note,) = Submission("insights", file).preflight(again)
    assert "goes on at the committed offsets, without its models" in note
    (note,) = Submission("insights", file, from_start=True).preflight(again)
    assert "counts twice" in note
    assert Submission("insights", file, "file:///s/1").preflight(again) == []


def test_a_cluster_that_starts_its_task_managers_on_demand_has_no_slots_and_takes_the_job(file: Path) -> None:
    assert Submission("insights", file).preflight(Cluster(slots=0, all_slots=0, config=ON_DISK)) == []
    with pytest.raises(CommandFailed, match="has 0 free slots, expected 1"):
        Submission("insights", file).preflight(Cluster(slots=0, config=ON_DISK))


def test_a_mini_cluster_needs_topics_and_tables_as_well(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Submission("insights", file).preflight_here()
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["insights"])
    with pytest.raises(CommandFailed, match=r"insights is not submitted:\n  the catalog .* has no table insights"):
        Submission("insights", file).preflight_here()


def test_a_part_of_the_job_needs_only_what_it_reads(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def none_missing(bootstrap: str, names: list[str]) -> list[str]:
        asked.extend(names)
        return []

    monkeypatch.setattr(preflight, "missing_topics", none_missing)
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["error_patterns"])
    assert Submission("latency-spikes", file).preflight(Cluster(config=ON_DISK)) == []
    assert asked == ["trace_events", "insight_out", "insight_rejected"]


def test_brokers_that_need_other_client_settings_are_not_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(settings | {"kafka": {"properties": {"security.protocol": "SASL_SSL"}}}))
    monkeypatch.delattr(preflight, "missing_topics")
    (note,) = Submission("insights", file).preflight(Cluster(config=ON_DISK))
    assert note.startswith("topics were not looked at")


def test_a_name_that_runs_or_will_run_again_is_refused(file: Path) -> None:
    with pytest.raises(CommandFailed, match=r"job insights is RESTARTING on http://flink:8081 already \(a{32}\)"):
        Submission("insights", file).preflight(Cluster(JOB, OLD))


def test_all_faults_come_in_one_message(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "missing_topics", lambda bootstrap, names: ["logs_raw", "insight_out"])
    monkeypatch.setattr(lake, "missing_tables", lambda settings: ["insights"])
    with pytest.raises(CommandFailed) as refused:
        Submission("insights", file).preflight(Cluster(slots=0, version="1.20.0"))
    first, *faults = str(refused.value).split("\n  ")
    assert first == "insights is not submitted:"
    for fault, wanted in zip(
        faults,
        (
            "has 0 free slots, expected 1",
            "runs Flink 1.20.0",
            "logs_raw, which",
            "insight_out, which",
            "no table insights",
        ),
        strict=True,
    ):
        assert wanted in fault
    assert all("reasoner" in fault for fault in faults[2:]), "each has the command that mends it"


RULES = "insight_rules"


@pytest.fixture
def file_with_rules(file: Path) -> Path:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"kafka": {"topics": {"rules": RULES}}}))
    return file


@pytest.mark.parametrize(
    ("state", "faults"),
    [
        (TopicState(1, -1, "compact"), ()),
        (TopicState(1, 604_800_000, "compact"), ()),
        (TopicState(1, -1, "compact,delete"), ()),
        (
            TopicState(1, 604_800_000, "compact,delete"),
            ("has cleanup.policy compact,delete and retention.ms 604800000",),
        ),
        (TopicState(3, -1, "compact"), ("has 3 partitions, expected 1, so that",)),
        (TopicState(3, 1, "delete"), ("has 3 partitions, expected 1", "has cleanup.policy delete, expected compact")),
    ],
)
def test_a_topic_in_which_rules_lose_their_order_or_are_lost_is_refused(
    file_with_rules: Path, monkeypatch: pytest.MonkeyPatch, state: TopicState, faults: tuple[str, ...]
) -> None:
    monkeypatch.setattr(preflight, "topic_states", lambda bootstrap, names: {RULES: state})
    for job in ("insights", "sequence-rules"):
        checks = preflight.Preflight(job, load(file_with_rules, JobConfig), "job.yaml", Cluster())
        found = list(checks.topic_faults())
        assert len(found) == len(faults)
        for text, wanted in zip(found, faults, strict=True):
            assert text.startswith(f"the topic of rules {RULES} {wanted}")
            assert text.endswith(", and publish the rules again")
    without = preflight.Preflight("latency-spikes", load(file_with_rules, JobConfig), "job.yaml", Cluster())
    assert list(without.topic_faults()) == [], "it has no rules"


def test_the_job_of_rules_needs_the_tables_of_its_matches(
    file_with_rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake, "missing_tables", lambda settings: [spec.name for spec in TABLES])
    (fault,) = preflight.Preflight("sequence-rules", load(file_with_rules, JobConfig), "j", Cluster()).table_faults()
    assert "has no table insights, sequence_matches: create it with" in fault


def test_a_savepoint_and_the_beginning_exclude_each_other(file: Path) -> None:
    with pytest.raises(WrongUse, match="--savepoint and --from-start, expected one of them"):
        Submission("insights", file, "latest", True).check()


@pytest.mark.parametrize(("idle_ms", "says"), [(29_500, "no message has come in traces for 30 s"), (20_000, "")])
def test_a_job_is_drained_only_while_its_sources_are_not_idle(
    file: Path, saved: Cluster, monkeypatch: pytest.MonkeyPatch, idle_ms: int, says: str
) -> None:
    monkeypatch.setattr(FlinkRest, "idle_ms_of_sources", lambda rest, job_id: {"logs": 5, "traces": idle_ms})
    if not says:
        savepoints.stop("insights", saved.url, "", drain=True)
        assert isinstance(journal.entries("insights")[-1], journal.Drained)
        return
    monkeypatch.delattr(FlinkRest, "stop")
    with pytest.raises(CommandFailed, match=says):
        savepoints.stop("insights", saved.url, "", drain=True)


def test_the_idle_time_of_a_drain_is_that_with_which_the_job_began(
    file: Path, saved: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlinkRest, "idle_ms_of_sources", lambda rest, job_id: {"traces": 50_000})
    for text, is_drained in (("kafka: {idle_ms: 60000}", True), ("kafka: {idle_ms: 0}", True), ("{}", False)):
        journal.check("insights")
        path = journal.journal_path("insights")
        path.write_text("")
        what = ("insights", "0.1.0", text)
        journal.record("insights", journal.Start("then", saved.url, "a" * 32, *what))
        if is_drained:
            savepoints.stop("insights", saved.url, "", drain=True)
        else:
            with pytest.raises(CommandFailed, match="stop without --drain"):
                savepoints.stop("insights", saved.url, "", drain=True)


@pytest.mark.parametrize("folder", ["", "s3://other/savepoints"])
def test_a_savepoint_lies_in_the_folder_of_the_job_unless_another_is_named(
    saved: Cluster, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(FlinkRest, "savepoint", lambda rest, job_id, folder, deadline_s: f"{folder}/1")
    what = ("insights", "0.1.0", "engine: {checkpoint_dir: 's3://flink/insights'}")
    journal.record("insights", journal.Start("then", saved.url, "a" * 32, *what))
    assert savepoints.take("insights", saved.url, folder) == f"{folder or 's3://flink/insights'}/1"


def test_the_journal_is_for_its_user_alone_and_reads_the_savepoints_of_before(file: Path) -> None:
    path = journal.journal_path("insights")
    path.parent.mkdir(parents=True)
    path.write_text('{"at": "then", "cluster": "c", "job_id": "j", "path": "p"}\n')
    path.chmod(0o644)
    journal.check("insights")
    assert path.stat().st_mode & 0o077 == 0, "settings can hold a password"
    assert journal.entries("insights") == [journal.Savepoint("then", "c", "j", "p")]


def test_a_job_that_does_not_run_has_no_savepoint_and_those_that_run_are_named() -> None:
    with pytest.raises(CommandFailed, match="no job named insights runs on http://flink:8081; there run other;"):
        savepoints.running(Cluster(OLD, OTHER), "insights")
    with pytest.raises(CommandFailed, match="2 jobs named insights run"):
        savepoints.running(Cluster(JOB, JOB | {"jid": "d" * 32}), "insights")


def open_one(checkpoint: int, started_ms: int = 4) -> OpenTransaction:
    return OpenTransaction(f"insights-insight_out-0-{checkpoint}", ("insight_out",), started_ms)


@pytest.mark.parametrize(
    ("cluster", "orphans"),
    [
        (Cluster(OLD, checkpoints={"b" * 32: {"completed": {"id": 6}}}), [7, 8]),
        (Cluster(OLD, checkpoints={"b" * 32: {"completed": {"id": 6}, "savepoint": {"id": 7}}}), [8]),
        (Cluster(OLD, checkpoints={"b" * 32: {"restored": {"id": 7}}}), [8]),
        (Cluster(OLD, checkpoints={"b" * 32: {}}), []),
        (Cluster(OTHER), []),
        (Cluster(OLD, JOB), []),
    ],
    ids=["behind-the-checkpoint", "a-savepoint", "restored", "failed-at-start", "not-known-here", "runs-again"],
)
def test_only_transactions_behind_the_last_checkpoint_of_an_ended_job_are_orphans(
    file: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, orphans: list[int]
) -> None:
    """A job that failed at its start had no checkpoint: the open ones are of the job before it."""
    there = {open_one(6): 6, open_one(7): 7, open_one(8): 8, open_one(9, 5): 9}
    monkeypatch.setattr(left, "of_job", lambda config: there)
    found = left.left_open(load(file, ReaderConfig), cluster)
    assert [there[one] for one in found.orphans] == orphans, "the last began after the job had ended: of another one"
    assert len(found.orphans) + len(found.kept) == 4
    assert found.why
