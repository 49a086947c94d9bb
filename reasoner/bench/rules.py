"""CPU of the fold of spans with rules: none, rules that no span fulfils, rules that one span in a hundred fulfils.

The rules are 25 on a service and an operation, 15 on a duration or the status, 10 on attributes, each of a service
of the traffic. The same messages are folded with each of the three in turn, in one process, so that a machine that is
shared slows all of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import exp
from statistics import median
from typing import Any, Final, NamedTuple

from operators.ingest.fold import FoldConfig, TraceFold
from reasoner.bench.job_input import LEAN, STEP_MS
from reasoner.evaluate.result import Result
from reasoner.recordings.message import Message
from reasoner.traffic.spans import SIGMA, median_ns, spans
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.contracts.rules import Rule
from state_schemas.telemetry.message import KafkaPosition
from udfs.rules.compiled import RuleIndex, compile_rules

START_MS: Final = 1_700_006_400_000
MESSAGES: Final = 64  # 64,000 spans, two messages of each template: 50 ms a pass
RULES: Final = 50
# Standard deviations of the logarithm of a duration above its median: 27 % and 0.6 % of the spans are slower.
OFTEN: Final = 0.6
SELDOM: Final = 2.5
FAILING: Final = 9  # operation that fails in each fifth service, from the third on
_NS_PER_MS: Final = 1_000_000

Report = Callable[[str], None]


class Case(NamedTuple):
    """Rules with which the messages are folded. reach: factor of the durations in them, None for no rules."""

    name: str
    reach: float | None


CASES: Final = (Case("none", None), Case("quiet", 100.0), Case("hits", 1.0))


def bench_rules(rounds: int, report: Report) -> Result:
    """Measure CPU-us a span. rounds: passes over the messages for each of CASES, in turn; 0.2 s a round."""
    folds = [TraceFold(FoldConfig(rules=rules(case.reach) if case.reach else None)) for case in CASES]
    messages = list(spans(LEAN, MESSAGES, 1, START_MS, STEP_MS))
    count = MESSAGES * LEAN.spans_per_message
    # Compiles and fills the caches.
    signals = [[len(folded.record_signals) for _ in range(2) for folded in _pass(fold, messages)] for fold in folds]
    found = [sum(of_fold) // 2 for of_fold in signals]
    report(f"{count} spans, {RULES} rules: {found[-1]} signals")
    us: list[list[float]] = [[] for _ in CASES]
    for _ in range(rounds):
        for times, fold in zip(us, folds, strict=True):
            began = time.process_time()
            _pass(fold, messages)
            times.append((time.process_time() - began) / count * 1e6)
    rows: list[dict[str, Any]] = [
        {
            "rules": case.name,
            "signals_share": round(number / count, 4),
            "us_a_span": round(median(times), 3),
            "us_a_span_min": round(min(times), 3),
            "us_a_span_max": round(max(times), 3),
            # Of the same round, so that what slows a round slows both.
            "more": round(median(one / plain for one, plain in zip(times, us[0], strict=True)) - 1, 3),
        }
        for case, number, times in zip(CASES, found, us, strict=True)
    ]
    scores = {f"{name}_{row['rules']}": row[name] for row in rows for name in ("us_a_span", "signals_share", "more")}
    return Result("bench rules", f"fold of lean spans, {RULES} rules, {rounds} rounds", scores, rows)


def _pass(fold: TraceFold, messages: Sequence[Message]) -> list[FoldedMessage]:
    """Fold the messages."""
    found: list[FoldedMessage] = []
    for offset, message in enumerate(messages):
        at = KafkaPosition("trace_events", message.partition or 0, offset, message.timestamp_ms)
        folded = fold.fold(message.value, at).message
        assert folded is not None, "a generated message is rejected"
        found.append(folded)
    return found


def rules(reach: float) -> RuleIndex:
    """Return the rules: 1 % of the spans fulfil them at a reach of 1, none at one of 100."""
    found, faults = compile_rules(_rule(number, condition) for number, condition in enumerate(_conditions(reach)))
    assert not faults, f"the rules of the benchmark have faults: {faults}"
    return found


def _rule(number: int, condition: Mapping[str, Any]) -> Rule:
    by = ("service", "operation", "trace", "host")[number % 4]
    document = {"id": f"rule-{number}", "version": 1, "title": "a rule", "by": by, "within": "1m"}
    return Rule.model_validate({**document, "steps": [{"name": "span", "span": condition, "count": ">= 5"}]})


def _conditions(reach: float) -> Iterator[dict[str, Any]]:
    """Yield 25 conditions on service and name, 15 on duration or status, 10 on attributes."""
    for service in range(25):
        yield _call(service, service % LEAN.operations, reach)
    for service in range(25, 35):
        slow_ms = max(_slow_ms(service, operation, SELDOM) for operation in range(LEAN.operations))
        yield {"service": _name(service), "duration_ms|gte": reach * slow_ms}
    for service in range(2, 27, 5):
        yield {"service": _name(service), "status": "error", "duration_ms|gte": reach * _slow_ms(service, FAILING)}
    for service in range(35, 45):
        attribute = f"attributes.app.attr.{service % LEAN.attributes}"
        if service % 2:  # all spans of the service are decoded, in all cases
            yield {"service": _name(service), attribute: "none"}
        else:
            yield {**_call(service, 0, reach), f"{attribute}|startswith": f"value-{service:03d}"}


def _call(service: int, operation: int, reach: float) -> dict[str, Any]:
    name = f"GET /service/{service}/operation/{operation}"
    return {"service": _name(service), "name": name, "duration_ms|gte": reach * _slow_ms(service, operation)}


def _name(service: int) -> str:
    return f"service-{service:03d}"


def _slow_ms(service: int, operation: int, deviations: float = OFTEN) -> float:
    return median_ns(service, operation) / _NS_PER_MS * exp(SIGMA * deviations)
