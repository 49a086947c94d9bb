"""Laws of resource attributes: each has the value of the newest record with that attribute, in any grouping."""

from random import Random

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource, ServiceInfo
from tests.support.traffic import NOON_MS, OneSpan, columns_of
from udfs.event_time import TimeLimits
from udfs.service_info import info_of, merge_info, newest_info
from udfs.spans.grouping import common
from udfs.spans.message import fold_spans
from udfs.spans.window import NameLimits

texts = st.sampled_from(("", "a", "b"))
resources = st.builds(
    Resource, st.just("prod"), st.just("cart"), st.sampled_from(("h", "i")), st.just(""), texts, texts, texts, texts
)
dated = st.lists(st.tuples(resources, st.integers(1, 4)), min_size=1, max_size=12)


def by_hand(records: list[tuple[Resource, int]]) -> ServiceInfo:
    """Return the expected result from a loop over attributes and one over records."""
    found: list[str | int] = []
    for name in ("version", "image", "container", "site_id"):
        given_ms = [(at_ms, str(getattr(resource, name))) for resource, at_ms in records if getattr(resource, name)]
        at_ms, value = max(given_ms, default=(0, ""))
        found += [value, at_ms]
    return msgspec.convert(found, ServiceInfo)


@given(dated, st.integers(0, 12), st.randoms(use_true_random=False))
def test_each_attribute_comes_from_the_newest_record_that_has_it_in_any_grouping(
    records: list[tuple[Resource, int]], cut: int, random: Random
) -> None:
    infos = [info_of(*record) for record in records]
    random.shuffle(infos)
    parts = [part for part in (infos[:cut], infos[cut:]) if part]
    assert merge_info(map(merge_info, parts)) == by_hand(records)


@given(dated)
def test_the_vectorised_merge_equals_the_loop(records: list[tuple[Resource, int]]) -> None:
    infos = [(r.version, r.image, r.container, r.site_id) for r, _ in records]
    at_ms = np.array([at_ms for _, at_ms in records], np.int64)
    group, info_index = np.zeros(len(records), np.int64), np.arange(len(records))
    assert newest_info(1, group, at_ms, info_index, infos) == [by_hand(records)]


@given(st.lists(dated, min_size=1, max_size=3))
def test_a_span_without_a_version_hides_no_version_in_its_message_or_in_another(
    messages: list[list[tuple[Resource, int]]],
) -> None:
    batches = []
    for offset, records in enumerate(messages):
        spans = [
            OneSpan("cart", NOON_MS + at_ms, 5, 100 * offset + number) for number, (_, at_ms) in enumerate(records, 1)
        ]
        decoded = columns_of(spans, [resource for resource, _ in records])
        batch = fold_spans(decoded, KafkaPosition("trace_events", 0, offset, NOON_MS + 1_000), TimeLimits()).batch
        assert batch is not None
        batches.append(batch)
    (aggregate,) = common(batches).aggregates(NameLimits())
    ((_, _, table),) = aggregate.windows
    assert table.info == by_hand([(resource, NOON_MS + at_ms) for records in messages for resource, at_ms in records])
