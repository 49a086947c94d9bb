"""Counts of the requests, lines and calls of a service in a window, which `RequestEffects` compares."""

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from heapq import nsmallest
from typing import Final
from zlib import crc32

from state_schemas.aggregates.log_silence import LoggingWindows
from state_schemas.aggregates.logs import OTHER_PATTERNS, LogAggregate, LogTable
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.requests import CALL, FAILED_REQUESTS, LINE, OTHER_REQUESTS, EffectAggregate, EffectWindow
from state_schemas.aggregates.spans import Dimension, SpanTable
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.activity import merge_ranges
from udfs.logs.template import template_of
from udfs.service_info import merge_info
from udfs.spans.window import merge_sampled, rows

__all__ = ["effects_of_lines", "effects_of_spans", "logging_windows", "merge_effect_windows"]

UNNAMED: Final = "(unnamed)"  # an operation without a name; "" is the window itself
TEMPLATE_CHARS_MAX: Final = 300
REMEMBERED_MAX: Final = 20_000  # templates in the cache, by their masked lines
UNKNOWN_MAX: Final = 300  # new effects of a window, and its operations; effects beyond it are not watched


def effects_of_lines(aggregates: Iterable[LogAggregate]) -> Iterator[EffectAggregate]:
    """Yield the effects of each aggregate, from its windows that are not late."""
    for aggregate in aggregates:
        windows = tuple((start_ms, _of_lines(table)) for start_ms, late, table in aggregate.windows if not late)
        if windows:
            yield EffectAggregate(aggregate.env, aggregate.service, windows)


def logging_windows(aggregates: Iterable[LogAggregate]) -> Iterator[LoggingWindows]:
    """Yield, for each environment, the windows in which a service logged in time."""
    windows: dict[str, set[int]] = {}
    for aggregate in aggregates:
        windows.setdefault(aggregate.env, set()).update(start_ms for start_ms, late, _ in aggregate.windows if not late)
    for env, starts in sorted(windows.items()):
        if starts:
            yield LoggingWindows(env, tuple(sorted(starts)))


def _of_lines(table: LogTable) -> EffectWindow:
    effects: dict[str, int] = {}
    templates: dict[str, str] = {}
    for counted in table.patterns:
        if counted.pattern_id != OTHER_PATTERNS:
            name = LINE + counted.pattern_id
            effects[name] = effects.get(name, 0) + counted.count
            template = _template(counted.texts)
            templates[name] = min(template, templates.get(name, template))
    # The version comes from spans only: logs may spell it differently.
    return EffectWindow({}, effects, templates, (), ServiceInfo(), table.ranges)


@lru_cache(REMEMBERED_MAX)
def _template(texts: tuple[str, ...]) -> str:
    return template_of(texts)[:TEMPLATE_CHARS_MAX]


def effects_of_spans(env: str, service: str, start_ms: int, table: SpanTable) -> Iterator[EffectAggregate]:
    """Yield the requests and calls of a window; nothing where there are neither."""
    requests: dict[str, int] = {}
    effects: dict[str, int] = {}
    for series, sketch in rows(table):
        if series.dimension is not Dimension.OPERATION:
            continue
        if series.kind in ENTRY_KINDS:
            succeeded = sketch.spans - sketch.errors
            for operation, count in ((series.name or UNNAMED, succeeded), (FAILED_REQUESTS, sketch.errors)):
                if count:
                    requests[operation] = requests.get(operation, 0) + count
        elif series.name != OTHER:
            effects[f"{CALL}{series.kind}|{series.name}"] = sketch.spans
    if requests or effects:
        window = EffectWindow(requests, effects, {}, table.sampled, table.info, table.ranges)
        yield EffectAggregate(env, service, ((start_ms, window),))


def merge_effect_windows(
    left: EffectWindow, right: EffectWindow, known: Collection[str], start_ms: int
) -> EffectWindow:
    """Merge two parts of the window that starts at start_ms, with at most UNKNOWN_MAX operations and new effects.

    known: effects that have a model; all of them are kept. Each window chooses other new effects by a hash, so that an
    effect that comes in every window is chosen sooner or later among many that come once. Operations beyond the limit
    are counted under OTHER_REQUESTS.
    """
    effects = _sum(left.effects, right.effects)
    unknown = [name for name in effects if name not in known]
    if len(unknown) > UNKNOWN_MAX:
        kept = set(nsmallest(UNKNOWN_MAX, unknown, key=lambda name: (crc32(f"{start_ms}|{name}".encode()), name)))
        effects = {name: count for name, count in effects.items() if name in known or name in kept}
    requests = _sum(left.requests, right.requests)
    if len(requests) > UNKNOWN_MAX:
        kept = set(nsmallest(UNKNOWN_MAX, (name for name in requests if name != OTHER_REQUESTS)))
        rest = sum(count for name, count in requests.items() if name not in kept)
        requests = {name: requests[name] for name in sorted(kept)} | {OTHER_REQUESTS: rest}
    wanted = effects.keys() - set(known)  # known ones have their template
    templates = {name: text for name, text in right.templates.items() if name in wanted}
    for name, text in left.templates.items():
        if name in wanted:
            templates[name] = min(text, templates.get(name, text))
    return EffectWindow(
        requests,
        effects,
        templates,
        merge_sampled((*left.traces, *right.traces)),
        merge_info((left.info, right.info)),
        merge_ranges((*left.ranges, *right.ranges)),
    )


def _sum(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    total = dict(left)
    for name, count in right.items():
        total[name] = total.get(name, 0) + count
    return total
