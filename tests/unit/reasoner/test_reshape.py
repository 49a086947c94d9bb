"""Reshaped recordings hold the same records, with exactly the requested lateness."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasoner.recordings import otlp_json
from reasoner.recordings.message import Message
from reasoner.recordings.read import BadLines, read, times_ns
from reasoner.recordings.reshape import denser, dump, rechunk, shifted
from reasoner.traffic import shop
from state_schemas.telemetry.signals import SignalType
from tests.support.recorded import NEZHA
from tests.support.reshaped import Lateness, make_late, shuffle_within, spread
from udfs.otlp.decoder import SpanDecoder

START_MS: Final = 1_700_000_000_000
DECODER: Final = SpanDecoder()

Record = tuple[str, bytes, int, int]  # kind, identity, event time in ns, Kafka timestamp in ms


@cache
def recording(seed: int = 3) -> tuple[Message, ...]:
    return tuple(shop.messages(seed, START_MS, 20_000, None))


def records(messages: Iterable[Message]) -> list[Record]:
    """Return each record once: a span by its ids and resource, other records by their bytes."""
    return [
        (message.topic_kind, identity, time_ns, message.timestamp_ms)
        for message in messages
        for identity, time_ns in _timed(message.topic_kind, message.value)
    ]


@cache  # most transformations send the same bytes at another time
def _timed(kind: SignalType, value: bytes) -> tuple[tuple[bytes, int], ...]:
    request = otlp_json.parse(kind, value)
    found: list[tuple[bytes, int]] = []
    for resource in getattr(request, f"resource_{'spans' if kind == 'traces' else kind}"):
        part = type(request)()
        getattr(part, request.ListFields()[0][0].name).append(resource)
        found_ns = times_ns(kind, part.SerializeToString(), DECODER)
        head = resource.resource.SerializeToString()
        if kind == "traces":
            spans = [span for scope in resource.scope_spans for span in scope.spans]
            identities = [head + span.SerializeToString() for span in spans]
        else:
            identities = [resource.SerializeToString() + str(n).encode() for n in range(len(found_ns))]
        found += zip(identities, found_ns, strict=True)
    return tuple(found)


def without_send_time(found: Iterable[Record]) -> Counter[tuple[str, bytes, int]]:
    return Counter(record[:3] for record in found)


def is_late(record: Record, lateness_ms: int) -> bool:
    """Return whether a record is late by the definition of the job, exact to the ns."""
    return record[2] < (record[3] - lateness_ms) * 1_000_000


def late_ones(messages: Iterable[Message], lateness_ms: int) -> Counter[tuple[str, bytes, int]]:
    return without_send_time(r for r in records(messages) if is_late(r, lateness_ms))


def test_denser_copies_every_span_at_its_time_into_traces_of_their_own() -> None:
    traces = [message for message in recording() if message.topic_kind == "traces"]
    copied = list(denser(traces, 3))
    assert [message.timestamp_ms for message in copied] == [m.timestamp_ms for m in traces for _ in range(3)]
    requests = [otlp_json.parse("traces", message.value) for message in copied]
    spans = [span for r in requests for part in r.resource_spans for scope in part.scope_spans for span in scope.spans]
    times = Counter((span.span_id, span.start_time_unix_nano, span.end_time_unix_nano) for span in spans)
    assert set(times.values()) == {3}
    ids = {(span.trace_id, span.span_id) for span in spans}
    assert len(ids) == len(spans), "spans with the same trace id and span id would count as duplicates"
    parents = {(span.trace_id, span.parent_span_id) for span in spans if span.parent_span_id}
    assert len(parents & ids) > 0.9 * len(parents), "the spans of a copied trace must stay in one trace"


def test_rechunk_puts_one_resource_into_a_message_and_changes_no_record() -> None:
    parts = list(rechunk(recording()))

    assert all(len(otlp_json.parse(p.topic_kind, p.value).ListFields()[0][1]) == 1 for p in parts)
    assert records(parts) == records(recording())


def test_shifting_moves_every_time_and_nothing_else() -> None:
    before, after = recording(), list(shifted(recording(), 3_300))
    for message, later in zip(before, after, strict=True):
        old = otlp_json.parse(message.topic_kind, message.value)
        assert later.timestamp_ms == message.timestamp_ms + 3_300
        before_ns, after_ns = (times_ns(part.topic_kind, part.value, DECODER) for part in (message, later))
        assert after_ns == [time_ns + 3_300 * 10**6 for time_ns in before_ns]
        (back,) = shifted([later], -3_300)
        assert otlp_json.parse(back.topic_kind, back.value) == old


@given(st.integers(0, 10**6), st.sampled_from([0, 500, 5_000, 120_000]))
@settings(max_examples=10, deadline=None)
def test_shuffling_makes_no_record_late_and_loses_none(seed: int, lateness_ms: int) -> None:
    before, after = recording(), shuffle_within(recording(), lateness_ms, seed)

    assert without_send_time(records(after)) == without_send_time(records(before))
    assert late_ones(after, lateness_ms) == late_ones(before, lateness_ms)
    sent_ms = [message.timestamp_ms for message in after]
    assert sent_ms == sorted(sent_ms)
    was_sent_ms = {message.value: message.timestamp_ms for message in before}
    assert all(0 <= m.timestamp_ms - was_sent_ms[m.value] <= lateness_ms for m in after)


def test_shuffling_really_shuffles() -> None:
    """With a lateness as long as the recording, about 50 % of all neighbouring pairs are in reverse order."""
    before = [m.value for m in recording()]
    places = [before.index(m.value) for m in shuffle_within(recording(), 40_000, 1)]
    turned = sum(later < earlier for earlier, later in pairwise(places))

    assert turned > 0.3 * len(places)


def test_shuffling_keeps_late_records_as_late_as_they_were() -> None:
    late, lateness = make_late(
        recording(), share_late=0.05, share_too_late=0.01, lateness_ms=10_000, age_ms_max=30_000, seed=1
    )
    after = shuffle_within(late, 10_000, 2)

    assert late_ones(after, 10_000) == late_ones(late, 10_000)
    assert late_ones(after, 10_000).total() == lateness.too_late > 50


def test_spread_assigns_every_partition_and_changes_nothing_else() -> None:
    parts = list(spread(recording(), 4, seed=1))

    assert {part.partition for part in parts} == {0, 1, 2, 3}
    assert [(p.topic_kind, p.value, p.timestamp_ms) for p in parts] == [
        (m.topic_kind, m.value, m.timestamp_ms) for m in recording()
    ]


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_made_late_are_exactly_the_shares_and_nothing_is_lost(seed: int) -> None:
    lateness_ms, age_ms_max = 5_000, 20_000
    after, lateness = make_late(
        recording(), share_late=0.05, share_too_late=0.01, lateness_ms=lateness_ms, age_ms_max=age_ms_max, seed=seed
    )
    before = records(recording())
    was_sent_ms = {record[1]: record[3] for record in before if record[0] == "traces"}
    moved = [r for r in records(after) if r[0] == "traces" and r[3] != was_sent_ms[r[1]]]
    too_late = [r for r in moved if is_late(r, lateness_ms)]

    assert without_send_time(records(after)) == without_send_time(before)
    total = len(was_sent_ms)
    assert lateness == Lateness(total, late=round(0.05 * total), too_late=round(0.01 * total))
    assert (len(moved) - len(too_late), len(too_late)) == (lateness.late, lateness.too_late)
    assert all(r[3] > was_sent_ms[r[1]] and r[2] // 1_000_000 >= r[3] - age_ms_max for r in moved)
    assert len([r for r in records(after) if is_late(r, lateness_ms)]) == lateness.too_late


def test_where_no_later_message_fits_fewer_records_are_moved_and_the_result_counts_them() -> None:
    everything = 1.0
    after, lateness = make_late(
        recording(), share_late=0.0, share_too_late=everything, lateness_ms=15_000, age_ms_max=30_000, seed=1
    )

    assert 0 < lateness.too_late < 0.3 * lateness.spans
    assert late_ones(after, 15_000).total() == lateness.too_late


def test_falling_timestamps_are_refused_before_anything_is_moved() -> None:
    backwards = recording()[::-1]

    with pytest.raises(ValueError, match="expected ascending"):
        make_late(backwards, share_late=0.1, share_too_late=0.0, lateness_ms=1_000, age_ms_max=2_000, seed=1)


def test_every_transformation_depends_on_its_seed_alone() -> None:
    def once(seed: int) -> list[Message]:
        late, _ = make_late(
            recording(), share_late=0.05, share_too_late=0.01, lateness_ms=5_000, age_ms_max=9_000, seed=seed
        )
        return list(spread(shuffle_within(rechunk(late), 5_000, seed), 4, seed))

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_the_whole_chain_keeps_every_record_and_the_lateness_that_was_made() -> None:
    late, lateness = make_late(
        recording(), share_late=0.05, share_too_late=0.01, lateness_ms=5_000, age_ms_max=9_000, seed=1
    )
    after = list(spread(shuffle_within(rechunk(late), 5_000, 2), 4, 3))

    assert without_send_time(records(after)) == without_send_time(records(recording()))
    assert late_ones(after, 5_000).total() == lateness.too_late
    for partition in range(4):
        sent_ms = [m.timestamp_ms for m in after if m.partition == partition]
        assert sent_ms == sorted(sent_ms)


def test_a_dump_is_read_back_with_timestamps_partitions_and_order(tmp_path: Path) -> None:
    before = list(spread(shuffle_within(rechunk(recording()), 5_000, 2), 4, 3))
    bad = BadLines()

    dump(before, tmp_path / "dump")
    after = list(read([tmp_path / "dump"], bad))

    assert bad == BadLines()
    for found, written in zip(after, before, strict=True):
        assert replace(found, value=b"") == replace(written, value=b"")
        assert otlp_json.parse(found.topic_kind, found.value) == otlp_json.parse(written.topic_kind, written.value)


def test_json_values_come_back_from_a_dump_byte_by_byte(tmp_path: Path) -> None:
    value = b'{"resourceLogs": [{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1000000"}]}]}], "unknown":1}'
    before = [Message("logs", value, 7, None), Message("logs", value, 7, 2), Message("logs", value, 9, 2)]
    dump(before, tmp_path)

    assert list(read([tmp_path], BadLines())) == before


def test_a_dump_refuses_a_folder_with_an_old_one_and_falling_timestamps(tmp_path: Path) -> None:
    message = recording()[0]
    dump([message], tmp_path)

    with pytest.raises(FileExistsError):
        dump([message], tmp_path)
    with pytest.raises(ValueError, match="sort by timestamp_ms"):
        dump(recording()[::-1], tmp_path / "other")


@pytest.mark.skipif(not NEZHA.is_dir(), reason=f"recorded data is absent: {NEZHA}")
def test_a_recorded_interval_survives_the_whole_chain(tmp_path: Path) -> None:
    day = NEZHA / "2023-01-29"
    files = [day / f"08_{minute}.{kind}.jsonl.zst" for minute in (43, 44) for kind in ("traces", "logs")]
    before = list(read(files, BadLines()))
    late, lateness = make_late(
        before, share_late=0.05, share_too_late=0.01, lateness_ms=60_000, age_ms_max=3_600_000, seed=1
    )
    chain = list(spread(shuffle_within(rechunk(late), 60_000, 2), 4, 3))
    dump(chain, tmp_path)
    after = list(read([tmp_path], BadLines()))

    assert without_send_time(records(after)) == without_send_time(records(before))
    assert late_ones(after, 60_000).total() == lateness.too_late == round(0.01 * lateness.spans)
