"""RuleBook: the rules of the rules topic, as all stages that have rules get them.

Events are `RuleRecord`; outputs are `PublishedRule`, which is broadcast, and `Insight` of kind `rule_rejected`.
"""

from collections.abc import Iterator
from dataclasses import replace as replace_fields
from typing import Final, get_args

from msgspec.structs import replace

from operators.machine import Stage, Step, with_rules
from state_schemas.aggregates.published_rules import PublishedRule, RuleRecord, TopicAtStart
from state_schemas.contracts.insight import Evidence, Insight, KafkaRange, Window
from state_schemas.contracts.rules import TIME_MS_END
from state_schemas.state.rule_book import RULE_BOOK_CODEC, RuleBookState
from udfs.insights.ids import insight_id
from udfs.insights.wording import title_of
from udfs.rules.publishing import Published, publish, put

Output = PublishedRule | Insight
REJECTED_MAX: Final = 1_000  # rules with a rejected record that are remembered; the oldest is closed
KEY_CHARS_MAX: Final = 200
_NO_RULES: Final = TopicAtStart()


class RuleBook:
    """See the module. One state, of all rules. It asks for no timer: the topic has no event time.

    With the first record the rules of another submission are given up: this one knows all rules of its topic. A record
    that is behind one that was read, or newer than a version with a higher offset, is rejected: the topic was created
    anew while the job runs.
    """

    takes = (RuleRecord,)
    gives = get_args(Output)
    codec = RULE_BOOK_CODEC

    def __init__(self, at_start: TopicAtStart = _NO_RULES) -> None:
        """Prepare the machine. at_start: the topic before its first record."""
        self._at_start = at_start
        self._submission = (at_start.topic_id, at_start.end_offset, len(at_start.published))

    def initial(self, key: str) -> RuleBookState:
        return RuleBookState({rule.rule_id: rule for rule in self._at_start.published}, submission=self._submission)

    def on_event(self, state: RuleBookState, event: RuleRecord, watermark_ms: int) -> Step[RuleBookState, Output]:
        outputs: list[Output] = []
        if state.submission != self._submission:
            state, closed = self._begun_anew(state)
            outputs += closed
        change, fault = _judged(state, event)
        state.offset = max(state.offset, event.offset)
        if change is not None:
            outputs += (change, *put(state.published, change, event.timestamp_ms))
        outputs += _verdicts(state, event, fault)
        return Step(state, tuple(outputs), None, (("rule_records_rejected_total", int(bool(fault))),))

    def _begun_anew(self, state: RuleBookState) -> tuple[RuleBookState, tuple[Insight, ...]]:
        """Return the state of this submission, and the end of insights about records of another topic."""
        began = self.initial("")
        before, now = state.submission[0], began.submission[0]
        if before and now and before != now:
            return began, tuple(_closed(one, "the job has another topic of rules") for one in state.rejected.values())
        began.rejected = state.rejected
        began.offset = state.offset if before and before == now else -1
        return began, ()

    def on_timer(self, state: RuleBookState, now_ms: int) -> Step[RuleBookState, Output]:
        return Step(state)


def begin(stage: Stage, at_start: TopicAtStart) -> Stage:
    """Return the stage with the rules that the topic has when the job is submitted; one without rules as it is."""
    if isinstance(stage.machine, RuleBook):
        return replace_fields(stage, machine=RuleBook(at_start))
    return with_rules(stage, at_start.published)


def _judged(state: RuleBookState, record: RuleRecord) -> Published:
    """Return what a record changes. The source of a job that goes on reads some again that the submission has read."""
    found, before = publish(state.published, record), state.published.get(record.key)
    is_read = before is not None and record.offset <= before.offset
    is_newer = found.change is not None and record.value is not None  # a removal can have come before the version
    if record.offset <= state.offset or (is_read and is_newer):
        offset = max(state.offset, before.offset if before else -1)
        expected = f"found offset {record.offset} after offset {offset}, expected a later one"
        return Published(fault=f"{expected}: the topic was created anew, submit the job again")
    return Published() if is_read else found


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
