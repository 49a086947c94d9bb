"""Which version a new error is said to be new since, of a service with several, and what that costs."""

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import Any, Final

import pytest

from state_schemas.aggregates.logs import LogTable, PatternCount
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_patterns import LogPatternModel
from state_schemas.telemetry.resource import ServiceInfo
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.detect.log_patterns.rule import PatternConfig, evaluate_lines
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.logs.template import pattern_of

USUAL: Final = "the usual trouble of this program"
NEW: Final = "could not reserve a piece in store"
Window = tuple[dict[str, tuple[str, ...]], str]  # lines with their versions, and the version of the newest record


def judged(windows: Callable[[float], Window], minutes: int) -> list[Insight]:
    """Return all candidates of a service. windows: what it logs, three times each, by minutes since the beginning."""
    model, found = LogPatternModel(), list[Insight]()
    for number in range(minutes * 6):
        lines, newest = windows(number / 6)
        model, candidates = after_window(model, number, [counted(*line) for line in lines.items()], newest)
        found += candidates
    return found


def counted(line: str, versions: tuple[str, ...]) -> PatternCount:
    pattern = pattern_of(line.encode())
    return PatternCount(True, pattern.pattern_id, 3, 17, pattern.texts, versions=versions)


def after_window(
    model: LogPatternModel, number: int, patterns: Sequence[PatternCount], newest: str
) -> tuple[LogPatternModel, list[Insight]]:
    start_ms = START_MS + number * WINDOW_MS
    info = ServiceInfo(newest, start_ms, f"cart:{newest}", start_ms)
    table = LogTable(patterns, 3 * len(patterns), info, ())  # type: ignore[arg-type]
    window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, table)
    return evaluate_lines(model, window, PatternConfig())


def beside_a_canary(erring: str, newest: str) -> Callable[[float], Window]:
    """Version 0 is followed by 1 after an hour, and ten minutes later a canary 2 runs beside it; then one errs."""

    def window(minute: float) -> Window:
        usual: tuple[str, ...] = ("0",) if minute < 60 else ("1",) if minute < 70 else ("1", "2")
        return {USUAL: usual} | ({NEW: (erring,)} if minute >= 75 else {}), usual[0] if minute < 70 else newest

    return window


@pytest.mark.parametrize(("erring", "before"), [("1", "0"), ("2", "1")])
@pytest.mark.parametrize("newest", ["1", "2"])
def test_the_version_before_is_one_that_came_earlier_and_the_insight_has_the_version_of_its_title(
    erring: str, before: str, newest: str
) -> None:
    first, *_ = judged(beside_a_canary(erring, newest), 76)
    assert f"new since version {erring}: could" in first.title
    assert (first.version, first.evidence.version_before) == (erring, before)
    assert first.image == (f"cart:{newest}" if newest == erring else ""), "the newest record may be of another image"


def test_of_two_versions_that_come_together_none_is_before_the_other() -> None:
    def window(minute: float) -> Window:
        return {USUAL: ("1", "2")} | ({NEW: ("2",)} if minute >= 15 else {}), "2"

    first, *_ = judged(window, 16)
    assert (first.kind, first.evidence.version_before) == ("error_pattern_new", "")


def variants() -> Iterator[str]:
    return (f"customer {word} was refused by ledger" for word in ("alpha", "bravo", "charlie", "delta", "echo"))


@pytest.mark.parametrize("order", [*permutations(range(5))][::17])
@pytest.mark.parametrize("known", [False, True], ids=["all new", "one was there before"])
def test_patterns_that_are_merged_are_new_since_a_version_whatever_their_ids(
    order: tuple[int, ...], *, known: bool
) -> None:
    """Variants of one line come minute by minute until they are one pattern."""
    lines = list(variants())

    def window(minute: float) -> Window:
        version: tuple[str, ...] = ("1",) if minute < 60 else ("2",)
        found = {lines[which]: version for place, which in enumerate(order) if 61 + place <= minute < 61.5 + place}
        found |= {lines[order[4]]: version} if known and minute < 1 else {}
        return {USUAL: version, **found} | ({lines[order[0]]: version} if minute >= 66 else {}), version[0]

    *_, last = judged(window, 68)
    assert "customer <*> was refused" in last.title
    assert last.evidence.version_before == ("" if known else "1")


class Passes(tuple[Any, ...]):
    """Patterns that count how often they are passed over."""

    __slots__ = ()
    passes = 0

    def __iter__(self) -> Iterator[Any]:
        Passes.passes += 1
        return super().__iter__()


def test_a_flood_of_new_patterns_is_passed_over_as_often_as_a_few() -> None:
    model = LogPatternModel()
    for number in range(70):
        model, _ = after_window(model, number, [counted(USUAL, ("1",))], "1")
    found_passes = []
    for patterns in (3, 300):
        Passes.passes = 0
        flood = Passes(
            PatternCount(True, f"{n:016x}", 3, 17, ("x", f" w{n}"), versions=("2",)) for n in range(patterns)
        )
        _, found = after_window(model, 70, flood, "2")
        assert found[0].evidence.version_before == "1"
        found_passes.append(Passes.passes)
    assert found_passes[0] == found_passes[1]
