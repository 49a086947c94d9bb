"""Many patterns at once: patterns beyond the registry, patterns that come together, patterns that join."""

from random import Random

from state_schemas.aggregates.logs import LogTable, PatternCount
from state_schemas.contracts.insight import Insight
from state_schemas.state.log_patterns import LogPatternModel
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceInfo
from tests.support.timeline import last
from tests.support.traffic import START_MS, WINDOW_MS
from udfs.detect.log_patterns.rule import JOINED, PatternConfig, evaluate_lines
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.logs.reader import LineReader

READER = LineReader()
HOUR = 360  # windows


class Service:
    """One service whose windows are evaluated one after another."""

    def __init__(self, patterns_max: int = 1_000) -> None:
        self.config = PatternConfig(patterns_max=patterns_max)
        self.model = LogPatternModel()
        self.emitted: list[Insight] = []
        self.windows = 0

    def logs(self, lines: dict[str, int], quiet: int = 10) -> list[Insight]:
        """Evaluate a window with these lines of ERROR; return its candidates.

        lines: line -> how often it is logged. quiet: number of lines below WARN.
        """
        read = zip(lines.values(), READER.patterns(list(lines)), strict=True)
        counts = [PatternCount(True, pattern.pattern_id, count, 17, pattern.texts) for count, pattern in read if count]
        start_ms = START_MS + self.windows * WINDOW_MS
        below_warn = [PatternCount(False, "other", quiet, 9, ())] if quiet else []
        ranges = (OffsetRange("logs_raw", 0, self.windows, self.windows),)
        table = LogTable((*below_warn, *counts), sum(lines.values()), ServiceInfo("1.0", start_ms), ranges)
        window = ServiceWindow(ServiceKey("prod", "cart"), start_ms, start_ms + WINDOW_MS, table)
        self.model, candidates = evaluate_lines(self.model, window, self.config)
        self.emitted += candidates
        self.windows += 1
        return candidates


def words(number: int) -> list[str]:
    random = Random(number)
    return ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=7)) + " broke" for _ in range(number)]


def test_a_pattern_that_returns_when_the_registry_is_full_has_returned_and_is_not_evicted() -> None:
    known, new = words(40), words(41)[:30]
    service = Service(patterns_max=40)
    service.logs(dict.fromkeys(known, 1))
    for _ in range(70 * 6):
        service.logs({known[0]: 1})
    (back,) = [insight for insight in service.logs({known[5]: 2} | dict.fromkeys(new, 1)) if insight.status == "open"]
    assert (back.kind, back.evidence.template) == ("error_pattern_returned", known[5])
    assert len(service.model.registry) == 40


def test_an_outage_that_raises_all_errors_together_is_found() -> None:
    service, random = Service(), Random(3)
    kinds = words(8)
    for window in range(3 * HOUR):
        often = 10.0 if window >= 2 * HOUR else 0.5
        service.logs({kind: sum(random.random() < often / 20 for _ in range(20)) for kind in kinds}, quiet=2)
    surges = {insight.subject for insight in service.emitted if insight.kind == "error_pattern_surge"}
    assert len(surges) == 8
    first = next(insight for insight in service.emitted if insight.kind == "error_pattern_surge")
    assert 2 < first.measures["lines_per_min_usual"] < 4, "three a minute, whatever other lines are logged"


def test_a_service_that_logs_nothing_but_errors_has_surges_too() -> None:
    service, random = Service(), Random(3)
    for window in range(3 * HOUR):
        many = random.randrange(30, 50) if window >= 2 * HOUR else random.randrange(0, 3)
        service.logs({"the store is closed": many}, quiet=0)
    assert [insight.kind for insight in last(service.emitted)] == ["error_pattern_surge"]


def test_new_errors_that_join_into_one_pattern_are_one_insight() -> None:
    """With the fifth user the name becomes a hole: the first insight continues for all, the others close."""
    service = Service()
    for _ in range(70):
        service.logs({})
    users = ["anna", "bert", "carl", "dora", "emil", "fred"]
    for user in users:
        for _ in range(3):
            service.logs({f"no card was found for {user} at the bank": 2})
    for _ in range(200):
        service.logs({f"no card was found for {users[service.windows % 6]} at the bank": 2})
    insights = last(service.emitted)
    assert {insight.kind for insight in insights} == {"error_pattern_new"}
    assert [insight.reason for insight in insights].count(JOINED.reason) == len(insights) - 1
    (joined,) = [insight for insight in insights if insight.reason != JOINED.reason]
    assert joined.measures["lines"] > 200, "it must count the lines of the joined pattern"
