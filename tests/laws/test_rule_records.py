"""Laws of signals of raw records: whole columns give what each record by itself gives; what is too much is counted."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.contracts.rules import Rule
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.spans import SPAN_KINDS, SpanColumns
from tests.support.stories import Story, busy, stories
from tests.support.traffic import columns, messages
from udfs.rules.compiled import RuleIndex, compile_rules
from udfs.rules.conditions import STATUSES
from udfs.rules.records import SIGNALS_MAX
from udfs.rules.spans import SpanRules
from udfs.rules.subjects import bucket_of

AT = KafkaPosition("trace_events", 3, 41, 1_700_000_400_000)
NS_PER_MS = 1_000_000

conditions = st.fixed_dictionaries(
    {},
    optional={
        "service": st.sampled_from(("service-0", "SERVICE-1", "service-*", "absent")),
        "name|startswith": st.sampled_from(("GET", "get /", "x")),
        "kind": st.sampled_from(SPAN_KINDS),
        "status": st.sampled_from(STATUSES),
        "duration_ms|gte": st.sampled_from((5, 20.5, 60)),
        "duration_ms|lt": st.sampled_from((30, 100)),
        "host|fieldref": st.just("service"),
        "version|exists": st.booleans(),
        "name|fieldref": st.just("service"),
        "service|neq": st.sampled_from(("service-0", "absent")),
        "name|startswith|neq": st.sampled_from(("GET", "x")),
        "kind|neq": st.sampled_from(SPAN_KINDS),
        "status|neq": st.sampled_from(STATUSES),
        "duration_ms|gte|neq": st.sampled_from((5, 20.5, 60)),
    },
).filter(bool)


def index_of(found: list[dict[str, Any]], by: str) -> RuleIndex:
    step = {"name": "a", "span": found}
    document = {"id": "r", "version": 1, "title": "t", "by": by, "within": "1m", "steps": [step]}
    index, faults = compile_rules([Rule.model_validate(document)])
    assert not faults
    return index


def fields_of(spans: SpanColumns, row: int) -> dict[str, Any]:
    resource = spans.resources[spans.resource[row]]
    own = {
        "name": spans.names[spans.name[row]],
        "kind": SPAN_KINDS[spans.kind[row]],
        "status": STATUSES[int(spans.error[row])],
        "duration_ms": float(spans.end_ns[row] - spans.start_ns[row]) / NS_PER_MS,
    }
    texts = {name: getattr(resource, name) for name in ("env", "service", "host", "version", "namespace", "site_id")}
    return {**{name: text for name, text in texts.items() if text}, **own}


@given(
    story=stories(),
    found=st.lists(conditions, min_size=1, max_size=3),
    by=st.sampled_from(("service", "host", "operation", "trace", "env")),
    data=st.data(),
)
def test_whole_columns_give_what_each_span_by_itself_gives(
    story: Story, found: list[dict[str, Any]], by: str, data: st.DataObject
) -> None:
    index = index_of(found, by)
    rules = SpanRules(index)
    for sent in messages(story)[:6]:
        spans = columns(sent.spans)
        ok = np.array([data.draw(st.booleans()) for _ in sent.spans])
        signals = rules.signals(spans, ok, AT)
        held = [
            row
            for row in range(len(sent.spans))
            if ok[row] and list(index.hits("span", fields_of(spans, row), int(spans.end_ns[row]) // NS_PER_MS))
        ]
        ids = [signal.signal.signal_id for signal in signals.signals]
        assert len(ids) == len(held)
        for row, signal_id in zip(held, ids, strict=True):
            assert signal_id.startswith(f"{spans.trace_id[row].tobytes().hex()}|{spans.span_id[row].tobytes().hex()}|")
        assert all(signal.bucket == bucket_of(signal.subject) for signal in signals.signals)


def test_signals_beyond_the_limit_of_a_message_are_counted() -> None:
    sent = messages(busy())[0]
    spans = columns([span._replace(number=number) for number in range(1, 400) for span in sent.spans[:3]])
    rules = SpanRules(index_of([{"duration_ms|gte": 0}], "service"))
    found = rules.signals(spans, np.ones(len(spans.name), np.bool_), AT)
    assert len(found.signals) == SIGNALS_MAX
    assert found.beyond == len(spans.name) - SIGNALS_MAX > 0
