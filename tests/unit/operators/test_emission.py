"""Revisions of insights: statuses, corrections by late records, and insights that violate their contract."""

from typing import NamedTuple

import msgspec

from operators.emission import EmissionConfig, Emitter, checked
from state_schemas.contracts.insight import Contribution, Evidence, Insight, Status, Window, from_json, to_json
from state_schemas.state.detector import DetectorState

VALID = Insight(
    insight_id="0" * 32,
    revision=0,
    status="open",
    kind="latency_spike",
    env="prod",
    service="cart",
    subject="",
    window=Window(start_ms=0, end_ms=10_000),
    severity="warning",
    confidence=0.9,
    title="cart: P95 latency 360 ms",
    measures={"latency_ms_p95": 360.0},
    evidence=Evidence(hosts=(Contribution("cart-1", 1.0, 0.5, 12),)),
)


def test_an_insight_with_a_share_over_one_is_a_dead_letter_and_the_others_go_on() -> None:
    evidence = Evidence(hosts=(Contribution("cart-1", 1.00004, 0.5, 12),))
    broken = msgspec.structs.replace(VALID, evidence=evidence, revision=3)
    valid, rejected = checked([VALID, broken])
    assert valid == [VALID]
    (letter,) = rejected
    assert (letter.reason, letter.records, letter.timestamp_ms, letter.payload) == ("invalid_insight", 1, 10_000, b"")
    assert letter.detail == f"latency_spike {'0' * 32}:3: Expected `float` <= 1.0 - at `$.evidence.hosts[0].share`"


def test_an_insight_is_read_back_as_it_was_written() -> None:
    assert from_json(to_json(VALID)) == VALID


class Seen(NamedTuple):
    """A model that knows only the end of its last window."""

    last_end_ms: int = 0


class Course:
    """The windows of one key, each with the status of the candidate that it gives, "" for none."""

    def __init__(self, *, evaluate_early: bool = True) -> None:
        self.config = EmissionConfig(lateness_ms=30_000, evaluate_early=evaluate_early)
        self.emitter: Emitter[Seen, str] = Emitter(self.config, len)
        self.state: DetectorState[Seen, str] = DetectorState("", "prod|cart", Seen(), {}, {}, {}, 0)

    def advance(self, now_ms: int, **windows: str) -> list[tuple[int, Status]]:
        """Set windows by the second at which they start, `s10="open"`; return (revision, status) of what is emitted."""
        self.state.windows |= {int(name[1:]) * 1000: status for name, status in windows.items()}
        self.emitter.settle(self.state, self.evaluate, now_ms)
        return [(sent.revision, sent.status) for sent in self.emitter.correct(self.state, self.evaluate, now_ms)]

    def evaluate(self, model: Seen, start_ms: int, status: str) -> tuple[Seen, list[Insight]]:
        end_ms = start_ms + self.config.window_ms
        window = Window(start_ms=0, end_ms=end_ms)
        found = [msgspec.structs.replace(VALID, status=status, window=window)] if status else []
        return Seen(end_ms), found


def test_the_first_revision_is_open_and_the_following_are_updated() -> None:
    course = Course()
    assert course.advance(20_000, s0="open", s10="updated") == [(0, "open")], "both windows ended at once"
    assert course.advance(30_000, s20="open") == [(1, "updated")], "a rule that opens again goes on"
    assert course.advance(40_000) == [], "nothing new"


def test_an_insight_closes_when_its_last_window_is_final_and_not_before() -> None:
    course = Course()
    assert course.advance(10_000, s0="open") == [(0, "open")]
    assert course.advance(20_000, s10="closed") == [], "late records may take the end back"
    assert course.advance(21_000, s10="updated") == [(1, "updated")], "they did"
    assert course.advance(22_000, s10="closed") == [(2, "updated")], "and again: as of the window before"
    assert course.advance(50_000) == [(3, "closed")]


def test_an_insight_that_opens_and_closes_in_windows_that_are_not_final_is_not_retracted() -> None:
    course = Course()
    assert course.advance(20_000, s0="open", s10="closed") == [(0, "open")]
    assert course.advance(30_000, s20="") == []
    assert course.advance(50_000) == [(1, "closed")]


def test_an_insight_whose_course_was_final_at_once_has_one_revision() -> None:
    assert Course().advance(90_000, s0="open", s10="updated", s20="closed") == [(0, "closed")]


def test_an_insight_that_late_records_remove_is_retracted_and_may_open_again() -> None:
    course = Course()
    assert course.advance(10_000, s0="open") == [(0, "open")]
    assert course.advance(11_000, s0="") == [(1, "retracted")]
    assert course.advance(12_000, s0="open") == [(2, "open")]


def test_windows_that_only_count_when_complete_are_not_evaluated_early() -> None:
    course = Course(evaluate_early=False)
    assert course.advance(39_999, s0="open") == []
    assert course.advance(40_000) == [(0, "open")]


def test_a_state_whose_insight_closed_early_does_not_open_it_again() -> None:
    """Earlier builds closed insights before their last window was final."""
    course = Course()
    course.advance(10_000, s0="open")
    (entry,) = course.state.emitted.values()
    assert entry.sent is not None
    entry.sent = msgspec.structs.replace(entry.sent, status="closed", revision=1)
    assert course.advance(20_000, s10="updated") == []
