"""The detector of `examples/own_detector` on the local engine; `tests/flink` runs it on Flink."""

from own_detector.error_budget import BudgetConfig, stage

from jobs.graph import stages
from state_schemas.contracts.insight import Insight
from tests.support.driving import graph_config, insights, restarts, run
from tests.support.timeline import last, sent, window_of
from tests.support.traffic import WINDOW_MS, fold


def emitted(line: str, config: BudgetConfig) -> list[Insight]:
    """Return all revisions for a service drawn as in `tests.support.timeline`, with a restart after each step."""
    events = [(message.timestamp_ms, folded) for message in sent({"cart": line}) if (folded := fold(message)[0])]
    pre_merge = next(stage for stage in stages(graph_config()) if stage.uid == "pre-aggregate-traces")
    return insights(run((pre_merge, stage(config, graph_config().emission)), events, restarts(lambda step: True)))


def config_of(budget_share: float, windows: int = 360, requests_min: int = 1) -> BudgetConfig:
    return BudgetConfig(budget_share, windows * WINDOW_MS, requests_min)


def test_a_spent_budget_opens_one_insight_and_closes_it_within_the_budget() -> None:
    # Of 12 requests a window 6 fail in `!`: 6 of 48 are more than 10 %, 6 of 60 are not.
    (budget,) = last(emitted("...!" + "." * 14, config_of(0.1, windows=12)))
    assert (budget.kind, budget.status, budget.subject) == ("error_ratio", "closed", "error budget")
    assert (window_of(budget.window.start_ms), window_of(budget.window.end_ms)) == (3, 5)
    assert budget.measures == {"requests": 48, "requests_failed": 6, "budget_ratio": 0.1}
    assert budget.title == "cart: 6 of 48 requests failed, 10.0% may: no error budget is left"
    assert {trace.role for trace in budget.evidence.traces} == {"failing"}


def test_failures_before_the_period_do_not_count() -> None:
    (budget,) = last(emitted("...!" + "." * 14, config_of(0.1, windows=4)))
    assert (window_of(budget.window.start_ms), window_of(budget.window.end_ms)) == (3, 8)


def test_the_insight_stays_open_while_the_budget_is_spent() -> None:
    opened, *more = emitted("!" * 20, config_of(0.1))
    assert (opened.status, more) == ("open", [])


def test_failures_within_the_budget_open_nothing() -> None:
    assert emitted("...!" + "." * 14, config_of(0.2)) == []


def test_a_few_requests_spend_no_budget() -> None:
    assert emitted("!!!!!", config_of(0.1, requests_min=61)) == []
    assert len(emitted("!!!!!", config_of(0.1, requests_min=60))) == 1
