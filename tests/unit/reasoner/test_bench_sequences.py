"""The rules of `reasoner bench sequences`: each span is a signal of one rule, and of another if it fails."""

from operators.ingest.fold import FoldConfig, TraceFold
from reasoner.bench.sequences import STEP_MS, rule_files
from reasoner.traffic.spans import SpanProfile, spans
from state_schemas.telemetry.message import KafkaPosition
from udfs.rules.compiled import compile_rules
from udfs.rules.document import RULES_MAX, read_rules
from udfs.rules.records import SIGNALS_MAX

COUNT = 2 * RULES_MAX + 1


def test_each_span_is_a_signal() -> None:
    files = [read_rules("bench", text.encode()) for text in rule_files(COUNT)]
    assert not any(file.faults for file in files)
    index, faults = compile_rules(rule for file in files for rule in file.rules)
    assert not faults
    assert len(index.rules) == COUNT
    fold = TraceFold(FoldConfig(rules=index))
    profile = SpanProfile(50, hosts=1, operations=COUNT, attributes=0, shared_names=True, spans_per_message=SIGNALS_MAX)
    (message,) = spans(profile, 1, 1, 1_700_000_000_000, STEP_MS)
    folded = fold.fold(message.value, KafkaPosition("traces", 0, 0, message.timestamp_ms)).message
    assert folded is not None
    assert len(folded.record_signals) == profile.spans_per_message
    assert {len(signal.hits) for signal in folded.record_signals} == {1, 2}
