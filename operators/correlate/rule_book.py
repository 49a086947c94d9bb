"""RuleBook: the rules of the rules topic, as all stages that have rules get them.

Events are `RuleRecord`; outputs are `PublishedRule`, which is broadcast, and `Insight` of kind `rule_rejected`.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Self, get_args

from msgspec.structs import replace

from operators.machine import Step
from state_schemas.aggregates.published_rules import PublishedRule, RuleRecord
from state_schemas.contracts.insight import Evidence, Insight, KafkaRange, Window
from state_schemas.contracts.rules import TIME_MS_END
from state_schemas.state.rule_book import RULE_BOOK_CODEC, RuleBookState
from udfs.insights.ids import insight_id
from udfs.insights.wording import title_of
from udfs.rules.publishing import publish, put

Output = PublishedRule | Insight
REJECTED_MAX: Final = 1_000  # rules with a rejected record that are remembered; the oldest is closed
KEY_CHARS_MAX: Final = 200


class RuleBook:
    """See the module. One state, of all rules. It asks for no timer: the topic has no event time.

    A state of another topic than that of the submission is given up with the first record: the submission knows all
    rules of its topic.
    """

    takes = (RuleRecord,)
    gives = get_args(Output)
    codec = RULE_BOOK_CODEC
    rules = PublishedRule

    def __init__(self, published: Sequence[PublishedRule] = ()) -> None:
        """Prepare the machine. published: the rules of the topic before its first record, in their order."""
        self._published = tuple(published)

    def with_rules(self, changes: Sequence[PublishedRule]) -> Self:
        return type(self)((*self._published, *changes))

    def initial(self, key: str) -> RuleBookState:
        return RuleBookState({rule.rule_id: rule for rule in self._published})

    def on_event(self, state: RuleBookState, event: RuleRecord, watermark_ms: int) -> Step[RuleBookState, Output]:
        outputs: list[Output] = []
        if any(rule.is_of_another(event.topic_id) for rule in state.published.values()):
            outputs += (_closed(insight, "the job has another topic of rules") for insight in state.rejected.values())
            state = self.initial("")
        before = state.published.get(event.key)
        if before is not None and before.topic_id == event.topic_id and event.offset <= before.offset:
            return Step(state, tuple(outputs))  # the source reads again what the submission has read
        change, fault = publish(state.published, event)
        if change is not None:
            outputs += (change, *put(state.published, change, event.timestamp_ms))
        outputs += _verdicts(state, event, fault)
        return Step(state, tuple(outputs), None, (("rule_records_rejected_total", int(bool(fault))),))

    def on_timer(self, state: RuleBookState, now_ms: int) -> Step[RuleBookState, Output]:
        return Step(state)


def _verdicts(state: RuleBookState, record: RuleRecord, fault: str) -> Iterator[Insight]:
    """Yield the insight about a rejected record, and the end of that about the record before."""
    before = state.rejected.pop(record.key, None)
    if before is not None:
        yield _closed(before, "another record of the rule came")
    if not fault:
        return
    state.rejected[record.key] = opened = _rejected(record, fault)
    yield opened
    if len(state.rejected) > REJECTED_MAX:
        yield _closed(state.rejected.pop(next(iter(state.rejected))), "too many rules are rejected")


def _closed(insight: Insight, reason: str) -> Insight:
    return replace(insight, revision=1, status="closed", reason=reason)


def _rejected(record: RuleRecord, fault: str) -> Insight:
    key, offset = record.key[:KEY_CHARS_MAX], record.offset
    at_ms = min(max(record.timestamp_ms, 0), TIME_MS_END)  # the tables have no time for each number
    return Insight(
        insight_id=insight_id("rule_rejected", "", key, f"{record.partition}|{offset}", record.timestamp_ms),
        revision=0,
        status="open",
        kind="rule_rejected",
        env="",
        service="",
        subject=key,
        window=Window(at_ms, at_ms + 1),
        severity="warning",
        confidence=1.0,
        title=title_of(f"rule {key or 'without a key'} is rejected: {fault}"),
        measures={"record_bytes": float(len(record.value or b""))},
        evidence=Evidence(kafka=(KafkaRange(record.topic, record.partition, offset, offset),)),
    )
