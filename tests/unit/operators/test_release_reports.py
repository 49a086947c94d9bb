"""Reports of what hosts run: when they are due, and how many are remembered."""

from random import Random
from typing import Any, Final

import pytest

from operators.ingest import release_reports
from operators.ingest.fold import FoldConfig, TraceFold
from operators.ingest.name_admission import AdmittedNames, PreAggregateConfig
from operators.ingest.pre_aggregate import PreAggregate, TracePreAggregate
from operators.ingest.release_reports import CONTAINERS_MAX, RELEASES_MAX, ReleaseReports
from operators.machine import Step
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.releases import HostRelease, ReleaseWindow, ServiceReleases
from state_schemas.state.pre_aggregate import PreAggregateState
from state_schemas.telemetry.message import KafkaPosition
from tests.support.traffic import LATENESS_MS, START_MS, TIMES, OneSpan, request_of_spans

INTERVAL_MS: Final = 300_000
FOLD: Final = TraceFold(FoldConfig(TIMES))


def message(*spans: OneSpan) -> FoldedMessage:
    newest_ms = max(span.end_ms for span in spans)
    found = FOLD.fold(request_of_spans(spans), KafkaPosition("trace_events", 0, 7, newest_ms)).message
    assert found is not None
    return found


def span(at_s: int, host: str = "web-0", version: str = "1.0", service: str = "cart") -> OneSpan:
    return OneSpan(service, START_MS + at_s * 1000, 20, 1 + at_s + hash_of(host), host, version=version)


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[-4:], "big")


class Partition:
    """Pre-aggregation of one source partition."""

    def __init__(self, services_max: int = 5_000) -> None:
        self.machine: PreAggregate[Any] = TracePreAggregate(PreAggregateConfig(services_max))
        self.state = self.machine.initial("trace_events|0")
        self.counts: dict[str, int] = {}

    def sees(self, *spans: OneSpan) -> list[tuple[int, HostRelease]]:
        """Return the reports after a message, as (seconds after START_MS, release)."""
        step: Step[PreAggregateState, Any] = self.machine.on_event(self.state, message(*spans), START_MS)
        self.counts.update(step.counts)
        assert step.state is not None
        outputs = (*step.outputs, *self.machine.on_timer(step.state, START_MS + 1).outputs)
        return [
            ((window.start_ms - START_MS) // 1000, seen)
            for output in outputs
            if isinstance(output, ServiceReleases)
            for window in output.windows
            for seen in window.seen
        ]


def test_what_is_new_is_reported_at_once_and_what_stays_once_in_an_interval() -> None:
    partition = Partition()
    assert partition.sees(span(0)) == [(0, HostRelease("1.0", "", "web-0"))]
    assert partition.sees(span(10), span(11), span(290)) == []
    assert partition.sees(span(20), span(20, "web-1")) == [(20, HostRelease("1.0", "", "web-1"))]
    assert partition.sees(span(30, version="2.0")) == [(30, HostRelease("2.0", "", "web-0"))]
    assert partition.sees(span(310)) == [(310, HostRelease("1.0", "", "web-0"))]
    assert partition.sees(span(320)) == []


def test_an_earlier_window_of_the_interval_is_reported_too() -> None:
    partition = Partition()
    assert [at_s for at_s, _ in partition.sees(span(40))] == [40]
    assert [at_s for at_s, _ in partition.sees(span(20))] == [20]
    assert partition.sees(span(20), span(30)) == []
    assert [at_s for at_s, _ in partition.sees(span(300))] == [300]
    assert [at_s for at_s, _ in partition.sees(span(290))] == [290], "the interval before may lack it"


def test_late_spans_and_resources_without_a_version_are_not_reported() -> None:
    partition = Partition()
    late = span(0)._replace(end_ms=START_MS - LATENESS_MS - 1, version="9", number=1)
    assert partition.sees(span(0, version=""), late) == []


def test_several_services_under_one_name_are_not_reported() -> None:
    partition = Partition(services_max=1)
    assert len(partition.sees(span(0))) == 1
    assert partition.sees(span(0, service="mail")) == []
    assert OTHER not in partition.state.reported_releases["prod"]


def test_pairs_beyond_the_bound_are_counted_and_those_not_seen_for_an_interval_make_room() -> None:
    partition = Partition()
    many = [span(0, f"pod-{number:04}") for number in range(RELEASES_MAX + 2)]
    assert RELEASES_MAX <= len(partition.sees(*many)) <= RELEASES_MAX + 2
    assert partition.counts["releases_overflowed_total"] == 2
    partition.sees(span(310, "pod-x"))
    remembered = partition.state.reported_releases["prod"]["cart"]
    assert len(remembered) == RELEASES_MAX + 1, "with the number of the interval: the pairs of the one before are known"
    assert len(partition.sees(span(610, "pod-y"))) == 1
    assert len(remembered) <= 3


def test_which_pairs_beyond_the_bound_are_remembered_does_not_depend_on_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(release_reports, "RELEASES_MAX", 8)
    spans = [span(10 * (number % 3), f"pod-{number:04}") for number in range(40)]
    remembered, always = set[frozenset[int]](), {sent.host for sent in spans}
    for seed in range(5):
        partition = Partition()
        parts = [spans[first : first + 1 + 3 * seed] for first in range(0, len(spans), 1 + 3 * seed)]
        always &= {seen.host for part in Random(seed).sample(parts, len(parts)) for _, seen in partition.sees(*part)}
        remembered.add(frozenset(partition.state.reported_releases["prod"]["cart"]))
        assert partition.counts["releases_overflowed_total"] > 0
    assert len(remembered) == 1
    assert len(remembered.pop()) == 9, "with the number of the interval"
    assert len(always) >= 8, "those that are remembered were reported each time"


def in_containers(partition: Partition, *sent: tuple[int, HostRelease]) -> list[tuple[int, HostRelease]]:
    """Return the reports after log records of hosts, as (seconds after START_MS, release)."""
    reports = ReleaseReports(partition.state, INTERVAL_MS)
    names = AdmittedNames(partition.state, PreAggregateConfig())
    reports.add(
        [ServiceReleases("prod", "cart", (ReleaseWindow(START_MS + at_s * 1000, (seen,), ()),)) for at_s, seen in sent],
        names,
    )
    partition.counts["refused"] = partition.counts.get("refused", 0) + reports.refused
    found = [
        ((window.start_ms - START_MS) // 1000, seen)
        for output in partition.state.releases
        for window in output.windows
        for seen in window.seen
    ]
    partition.state.releases.clear()
    return found


def test_a_name_of_a_container_for_each_process_takes_no_room_and_hides_no_other_version() -> None:
    partition = Partition()
    jobs = [(10 * (n // 120), HostRelease("1", "", f"web-{n % 3}", f"job-{n:04}")) for n in range(3_000)]
    reports = [report for job in jobs for report in in_containers(partition, job)]
    assert len(reports) < 100, "those with smaller hashes take the place of others, 4 of each host"
    assert len(partition.state.reported_releases["prod"]["cart"]) == 1 + 3 * (CONTAINERS_MAX + 1)
    for number in range(20):
        new = 250, HostRelease("2", "", "web-0", f"new-{number}")
        assert (in_containers(partition, new) == [new]) or number > CONTAINERS_MAX
    assert partition.counts["refused"] == 0


@pytest.mark.parametrize("room", [1_000, 9, 4])
def test_which_containers_are_distinguished_does_not_depend_on_their_order(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(release_reports, "RELEASES_MAX", room)
    jobs = [
        (10 * (n % 40), HostRelease("1", "", f"web-{n % 3}", f"job-{n}" if n % 3 < 2 or n < 9 else ""))
        for n in range(90)
    ]
    remembered = []
    for seed in range(20):
        partition = Partition()
        reports = in_containers(partition, *Random(seed).sample(jobs, len(jobs)))
        remembered.append(partition.state.reported_releases["prod"]["cart"])
        for host in range(3 if room > 10 else 0):
            first_s = min(at_s for at_s, seen in jobs if seen.host == f"web-{host}")
            assert first_s in {at_s for at_s, seen in reports if seen.host == f"web-{host}"}
    assert all(other == remembered[0] for other in remembered)
    assert len(remembered[0]) == 1 + min(room, 3 * CONTAINERS_MAX + 3 - 1)


@pytest.mark.parametrize("size", [1, 5])
def test_the_first_report_of_an_interval_does_not_depend_on_messages_and_their_order(size: int) -> None:
    random = Random(size)
    spans = [span(3 * n, f"web-{random.randrange(3)}", f"{random.randrange(2)}.0") for n in range(300)]
    expected: dict[tuple[int, HostRelease], int] = {}
    for sent in spans:
        start_s = (sent.end_ms - START_MS) // 10_000 * 10
        expected.setdefault((start_s * 1000 // INTERVAL_MS, HostRelease(sent.version, "", sent.host)), start_s)
    partition, found = Partition(), dict[tuple[int, HostRelease], int]()
    parts = [spans[first : first + size] for first in range(0, len(spans), size)]
    for part in random.sample(parts, len(parts)):
        for at_s, release in partition.sees(*part):
            key = (at_s * 1000 // INTERVAL_MS, release)
            found[key] = min(at_s, found.get(key, at_s))
    assert found == expected
