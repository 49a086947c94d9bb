"""Each hostile message is counted, repaired, cut or rejected as `tests/faults` expects it of a cluster."""

import pytest

from operators.ingest.fold import FOLDS, FoldConfig
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.signals import SIGNALS, SignalType
from tests.faults.hostile_records import hostile_records
from tests.support.traffic import START_MS
from udfs.logs.window import line_count


@pytest.mark.parametrize("signal", SIGNALS)
def test_each_hostile_message_is_explained(signal: SignalType) -> None:
    fold, at = FOLDS[signal](FoldConfig()), KafkaPosition("t", 0, 0, START_MS)
    pieces = [piece for piece in hostile_records(START_MS) if piece.message.topic_kind == signal]
    assert len(pieces) > 60
    for piece in pieces:
        folded = fold.fold(piece.message.value, at)
        counts = dict(folded.counts)
        logs = folded.message.logs if folded.message else ()
        severe = sum(line_count(table) for aggregate in logs for _, _, table in aggregate.windows)
        assert {
            "records": counts.get("records_folded_total", 0),
            "severe": severe,
            "rejected": [letter.reason for letter in folded.dead_letters],
            "repaired": counts.get("texts_repaired_total", 0),
            "cut": counts.get("lines_cut_total", 0),
        } == {
            "records": piece.records,
            "severe": piece.severe,
            "rejected": [piece.rejected] if piece.rejected else [],
            "repaired": piece.repaired,
            "cut": piece.cut,
        }, piece.name
