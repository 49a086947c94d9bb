"""Laws of folding and merging: the result is a pure function of the set of spans, and equals a loop over them."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.aggregates.activity import Activity, ActivityWindow
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.spans import SPAN_DIMENSIONS, Dimension, Exemplar, Series, SpanBatch, SpanTable
from state_schemas.telemetry.message import KafkaPosition, OffsetRange
from state_schemas.telemetry.spans import ENTRY_KINDS, KIND_CONSUMER, KIND_SERVER
from tests.support.traffic import LATENESS_MS, START_MS, TIMES, WINDOW_MS, OneSpan, columns, resource_of
from udfs.activity import RANGES_MAX, merge_activity, merge_ranges
from udfs.event_time import TimeLimits
from udfs.otlp.resource import NAME_CHARS_MAX
from udfs.service_info import info_of, merge_info
from udfs.spans.grouping import activity_of, common
from udfs.spans.kernels import SAMPLED_MAX, SLOWEST_MAX, repeated
from udfs.spans.message import FoldResult, fold_spans
from udfs.spans.sketches import Sketches, merge_sketches
from udfs.spans.window import COARSE, NameLimits, entry_table, merge_span_tables, rows, span_count
from udfs.stats.duration_histogram import BINS, bins_of

WIDE = NameLimits()
TIGHT = NameLimits(hosts_max=2, operations_max=3)
NOW_MS = START_MS + 600_000

one_span = st.builds(
    OneSpan,
    service=st.just("cart"),
    end_ms=st.integers(NOW_MS - LATENESS_MS - 15_000, NOW_MS),
    latency_ms=st.sampled_from((0.0005, 1.0, 1.0, 250.0, 4_000_000.0)),
    number=st.integers(1, 2**40),
    host=st.sampled_from(("h1", "h2", "h3", "h4", OTHER)),
    operation=st.sampled_from(("GET /", "GET /a", "POST /", "", "ü")),
    kind=st.integers(0, 5),
    error=st.booleans(),
    env=st.just("prod"),
    trace=st.integers(0, 12),
    parent=st.integers(0, 3),
)
some_spans = st.lists(one_span, min_size=1, max_size=30, unique_by=lambda span: span.number)


def fold_at(spans: Sequence[OneSpan], offset: int = 5, limits: TimeLimits = TIMES) -> FoldResult:
    return fold_spans(columns(spans), KafkaPosition("trace_events", 0, offset, NOW_MS), limits)


def batch_at(spans: Sequence[OneSpan], offset: int = 5) -> SpanBatch:
    batch = fold_at(spans, offset).batch
    assert batch is not None
    return batch


Windows = dict[tuple[int, bool], SpanTable]  # by (start, late)


def windows_at(spans: Sequence[OneSpan], offset: int = 5) -> Windows:
    (aggregate,) = common([batch_at(spans, offset)]).aggregates(WIDE)
    return {(start_ms, late): table for start_ms, late, table in aggregate.windows}


def merge(parts: Sequence[Windows], limits: NameLimits) -> Windows:
    places = sorted({place for part in parts for place in part})
    return {place: merge_span_tables([part[place] for part in parts if place in part], limits) for place in places}


def in_parts(spans: list[OneSpan], random: Random) -> list[list[OneSpan]]:
    cuts = sorted(random.sample(range(1, len(spans)), random.randint(0, min(4, len(spans) - 1))))
    return [spans[a:b] for a, b in zip([0, *cuts], [*cuts, len(spans)], strict=True)]


def tree(items: list[Windows], limits: NameLimits, random: Random) -> Windows:
    """Merge the windows pair by pair in random order."""
    items = list(items)
    while len(items) > 1:
        random.shuffle(items)
        items = [merge(items[:2], limits), *items[2:]]
    return merge(items, limits)


@pytest.mark.parametrize("limits", [WIDE, TIGHT], ids=["wide", "tight"])
@given(spans=some_spans, random=st.randoms(use_true_random=False))
def test_merging_is_commutative_associative_and_leaves_its_arguments_alone(
    limits: NameLimits, spans: list[OneSpan], random: Random
) -> None:
    parts = [windows_at(part, offset) for offset, part in enumerate(in_parts(spans, random))]
    before = msgspec.msgpack.encode(parts)
    at_once = merge(parts, limits)
    assert tree(parts, limits, random) == at_once
    assert merge([at_once], limits) == at_once
    assert msgspec.msgpack.encode(parts) == before


@given(spans=some_spans, random=st.randoms(use_true_random=False))
def test_merging_the_parts_of_a_message_gives_the_message(spans: list[OneSpan], random: Random) -> None:
    parts = [windows_at(part) for part in in_parts(spans, random)]
    assert merge(parts, WIDE) == windows_at(spans)
    assert merge(parts, TIGHT) == merge([windows_at(spans)], TIGHT)


@pytest.mark.parametrize("limits", [WIDE, TIGHT], ids=["wide", "tight"])
@given(spans=some_spans, random=st.randoms(use_true_random=False))
def test_merging_batches_equals_merging_the_aggregates_of_each(
    limits: NameLimits, spans: list[OneSpan], random: Random
) -> None:
    """All services and environments of the batches are merged at once, in any order."""
    spans = [
        span._replace(service=random.choice(("cart", "mail")), env=random.choice(("prod", "test"))) for span in spans
    ]
    batches = [batch_at(part, offset) for offset, part in enumerate(in_parts(spans, random))]
    one_by_one: dict[tuple[str, str, int, bool], list[SpanTable]] = {}
    for batch in batches:
        for aggregate in common([batch]).aggregates(limits):
            for start_ms, late, table in aggregate.windows:
                one_by_one.setdefault((aggregate.env, aggregate.service, start_ms, late), []).append(table)
    merged = common(random.sample(batches, len(batches))).aggregates(limits)
    assert [
        ((aggregate.env, aggregate.service, start_ms, late), table)
        for aggregate in merged
        for start_ms, late, table in aggregate.windows
    ] == [(place, merge_span_tables(tables, limits)) for place, tables in sorted(one_by_one.items())]
    seen = activity_of(batches)
    assert sum(window.records for windows in seen.values() for found in windows for window in found.seen) == sum(
        span_count(table) for aggregate in merged for _, late, table in aggregate.windows if not late
    )


@given(spans=some_spans, random=st.randoms(use_true_random=False))
def test_names_beyond_the_bound_are_counted_under_other_and_sums_stay(spans: list[OneSpan], random: Random) -> None:
    parts = [windows_at(part, offset) for offset, part in enumerate(in_parts(spans, random))]
    for table in merge(parts, TIGHT).values():
        sums: Counter[Dimension] = Counter()
        names: dict[tuple[Dimension, bool], set[str]] = {}
        for series, sketch in rows(table):
            sums[series.dimension] += sketch.spans
            names.setdefault((series.dimension, series.kind in ENTRY_KINDS), set()).add(series.name)
        assert sums[Dimension.SERVICE] == sums[Dimension.HOST] == sums[Dimension.OPERATION] == span_count(table)
        for (dimension, _), kept in names.items():
            assert dimension is Dimension.SERVICE or len(kept - {OTHER}) <= TIGHT.of(dimension)


@given(spans=some_spans)
def test_a_span_table_is_sorted_and_has_no_empty_row_or_bin(spans: list[OneSpan]) -> None:
    for table in windows_at(spans).values():
        assert list(table.keys) == sorted(set(table.keys))
        for _, sketch in rows(table):
            assert (np.diff(sketch.bins) > 0).all()
            assert (sketch.counts > 0).all()
            assert sketch.spans > 0
        assert Sketches.unpack(table.sketches).pack() == table.sketches


@given(spans=some_spans)
def test_an_entry_table_holds_the_entry_spans_and_counts_exactly_from_coarse_bins_on(
    spans: list[OneSpan],
) -> None:
    for table in windows_at(spans).values():
        kept = entry_table(table)
        assert (kept.info, kept.slowest, kept.ranges) == (table.info, table.slowest, table.ranges)
        entry = Sketches.unpack(table.sketches).only([key for key in table.keys if key.kind in ENTRY_KINDS])
        exact = dict(merge_sketches([entry], {key: key.of_any_kind() for key in entry.keys}).items())
        assert kept.keys == tuple(sorted(exact))
        for series, sketch in rows(kept):
            assert (sketch.spans, sketch.errors) == (exact[series].spans, exact[series].errors)
            for first_bin in range(0, BINS, COARSE):
                assert sketch.count_from(first_bin) == exact[series].count_from(first_bin)
        assert entry_table(merge_span_tables([table, table], WIDE)) == merge_span_tables([kept, kept], WIDE)
        bounded = entry_table(merge_span_tables([table], TIGHT))
        assert bounded == merge_span_tables([kept], TIGHT), "other kinds do not change the names for detection"


def by_hand(spans: Sequence[OneSpan], limits: TimeLimits) -> dict[tuple[int, bool], dict[str, Any]]:
    """Return the content of each span table by (window start, late), from a loop over the spans."""
    windows: dict[tuple[int, bool], dict[str, Any]] = {}
    for span in spans:
        late = span.end_ms < NOW_MS - limits.lateness_ms
        key = (span.end_ms - span.end_ms % WINDOW_MS, late)
        window = windows.setdefault(key, {"spans": Counter(), "errors": Counter(), "exemplars": set(), "info": []})
        duration_ns = round(span.latency_ms * 1_000_000)
        bin_ = int(bins_of(np.array([duration_ns]))[0])
        window["info"].append(info_of(resource_of(span), span.end_ms))
        for dimension, name in zip(SPAN_DIMENSIONS, ("", span.host, span.operation), strict=True):
            series = Series(span.kind, dimension, name)
            window["spans"][series, bin_] += 1
            window["errors"][series] += span.error
        if span.kind in (KIND_SERVER, KIND_CONSUMER):
            trace_id = columns([span]).trace_id[0].tobytes().hex()
            window["exemplars"].add(Exemplar(duration_ns, trace_id, span.host, span.operation))
    return windows


def check_by_hand(spans: Sequence[OneSpan]) -> None:
    result, windows = fold_at(spans), windows_at(spans)
    expected = by_hand(spans, TIMES)
    assert list(windows) == sorted(expected)
    assert (result.folded, result.late) == (len(spans), sum(span.end_ms < NOW_MS - LATENESS_MS for span in spans))
    for place, table in windows.items():
        window = expected[place]
        found = {
            (series, int(b)): int(n)
            for series, sketch in rows(table)
            for b, n in zip(sketch.bins, sketch.counts, strict=True)
        }
        assert found == window["spans"]
        assert {series: sketch.errors for series, sketch in rows(table)} == window["errors"]
        slowest = sorted(window["exemplars"], key=lambda e: (-e.duration_ns, e.trace_id, e.host, e.operation))
        assert table.slowest == tuple(slowest[:SLOWEST_MAX])
        longest = {e.trace_id: e for e in sorted(window["exemplars"])}
        assert table.sampled == tuple(longest[trace_id] for trace_id in sorted(longest)[:SAMPLED_MAX])
        assert table.info == merge_info(window["info"])
        assert table.ranges == (OffsetRange("trace_events", 0, 5, 5),)


@given(spans=some_spans)
def test_a_fold_equals_a_loop_over_the_spans(spans: list[OneSpan]) -> None:
    check_by_hand(spans)


def test_many_equal_spans_of_one_trace_do_not_hide_the_next_slowest() -> None:
    """A retry loop with a clock of 1 ms resolution gives 20 equal spans; two other spans are slow too."""
    equal = [OneSpan("cart", NOW_MS - 1, 500, number, trace=1) for number in range(1, 21)]
    others = [OneSpan("cart", NOW_MS - 1, 400 + number, number, trace=number) for number in (31, 32)]
    check_by_hand([*equal, *others])


def test_an_operation_name_is_cut_and_names_that_differ_late_stay_apart() -> None:
    """If a span name is a statement or a stack trace, state and insights hold its first characters and a hash."""
    long = [OneSpan("cart", NOW_MS - 1, 5, number, operation="x" * 100_000 + str(number % 2)) for number in range(1, 5)]
    (table,) = windows_at(long).values()
    names = [key.name for key in table.keys if key.dimension is Dimension.OPERATION]
    assert [len(name) for name in names] == [NAME_CHARS_MAX, NAME_CHARS_MAX]
    assert {exemplar.operation for exemplar in table.slowest} <= set(names)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4)), max_size=40),
    st.data(),
)
def test_repeated_ids_are_those_of_an_earlier_span_that_counts(
    ids: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    counts = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    expected, seen = [], set()
    for triple, counted in zip(ids, counts, strict=True):
        expected.append(counted and triple[2] != 0 and triple in seen)
        if counted:
            seen.add(triple)
    words = np.array(ids, np.uint64).reshape(-1, 3)
    assert repeated(words, np.array(counts, np.bool_)).tolist() == expected


def test_repeated_ids_are_found_among_ids_constructed_to_collide() -> None:
    """The ids are equal in the bits that the hash table uses: beyond 64 probes the ids are sorted instead."""
    crowd = [(number << 31, number, 7) for number in range(300)]
    words = np.array([*crowd, crowd[5]], np.uint64)
    assert np.flatnonzero(repeated(words, np.ones(len(words), np.bool_))).tolist() == [300]


def test_a_kafka_timestamp_of_any_size_raises_no_error() -> None:
    """One producer writes nanoseconds where Kafka expects milliseconds, another writes no timestamp (-1)."""
    spans = columns([OneSpan("cart", NOW_MS, 5, 1), OneSpan("cart", NOW_MS, 5, 2)])
    for timestamp_ms in (-1, 0, NOW_MS * 1_000, NOW_MS * 1_000_000, 2**63 - 1):
        result = fold_spans(spans, KafkaPosition("trace_events", 0, 0, timestamp_ms), TIMES)
        assert result.folded + sum(rejected.records for rejected in result.rejected) == 2, timestamp_ms
        assert not result.folded


ranges = st.builds(
    lambda partition, first, length: OffsetRange("trace_events", partition, first, first + length),
    st.integers(0, 3),
    st.integers(0, 50),
    st.integers(0, 9),
)
activity = st.builds(
    ActivityWindow,
    st.sampled_from((START_MS, START_MS + WINDOW_MS)),
    st.lists(
        st.builds(Activity, st.sampled_from(("logs", "traces")), st.sampled_from("abc"), st.integers(1, 9)), max_size=4
    ).map(tuple),
    st.lists(ranges, max_size=2).map(tuple),
)


@given(st.lists(activity, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_activity_merges_in_any_order_and_grouping_and_loses_no_record(
    windows: list[ActivityWindow], random: Random
) -> None:
    merged = merge_activity(windows)
    other = random.sample(windows, len(windows))
    cut = random.randint(0, len(windows))
    assert merge_activity((*merge_activity(other[:cut]), *merge_activity(other[cut:]))) == merged
    assert [window.start_ms for window in merged] == sorted({window.start_ms for window in windows})
    assert _records(merged) == _records(windows)


def _records(windows: Sequence[ActivityWindow]) -> int:
    return sum(seen.records for window in windows for seen in window.seen)


@given(st.lists(ranges, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_ranges_merge_in_any_order_and_grouping(found: list[OffsetRange], random: Random) -> None:
    shuffled = random.sample(found, len(found))
    cut = random.randint(0, len(found))
    assert merge_ranges((*merge_ranges(shuffled[:cut]), *merge_ranges(shuffled[cut:]))) == merge_ranges(found)


def test_ranges_of_many_partitions_are_bounded_in_any_grouping() -> None:
    many = [OffsetRange("trace_events", partition, 1, 2) for partition in range(3 * RANGES_MAX)]
    parts = [merge_ranges(many[start::3]) for start in range(3)]
    assert merge_ranges(part for chunk in parts for part in chunk) == merge_ranges(many)
    assert len(merge_ranges(many)) == RANGES_MAX


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="no tables to merge"):
        merge_span_tables([], WIDE)


def test_names_within_the_bound_are_chosen_by_hash_and_not_alphabetically() -> None:
    spans = [OneSpan("cart", NOW_MS - 1, 5, n, host=f"host-{n:04}", operation=f"op-{n:04}") for n in range(1, 1_001)]
    (table,) = windows_at(spans).values()
    hosts = {key.name for key in table.keys if key.dimension is Dimension.HOST}
    assert len(hosts) == WIDE.hosts_max + 1
    first = {f"host-{number:04}" for number in range(1, WIDE.hosts_max + 1)}
    assert len(hosts & first) < WIDE.hosts_max / 2
