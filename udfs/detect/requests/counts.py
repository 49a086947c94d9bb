"""Lines and spans of a service by shape, side by side: what `RequestShapes` compares with the requests."""

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from heapq import nsmallest
from typing import Final
from zlib import crc32

from state_schemas.aggregates.log_silence import LogsHeard
from state_schemas.aggregates.logs import OTHER_PATTERNS, LogBlock, LogPartial
from state_schemas.aggregates.names import OTHER
from state_schemas.aggregates.requests import CALL, FAILED_REQUESTS, LINE, OTHER_REQUESTS, ShapePane, ShapePartial
from state_schemas.aggregates.spans import DIMENSION_OPERATION, SpanBlock
from state_schemas.telemetry.resource import ServiceInfo
from state_schemas.telemetry.spans import ENTRY_KINDS
from udfs.activity import merge_ranges
from udfs.logs.template import template_of
from udfs.service_info import merge_info
from udfs.spans.window import merge_sampled, rows

__all__ = ["logs_heard", "merge_shape_panes", "shapes_of_lines", "shapes_of_spans"]

UNNAMED: Final = "(unnamed)"  # "" is the pane itself
TEMPLATE_CHARS_MAX: Final = 300
REMEMBERED_MAX: Final = 20_000  # templates, by what they are made of
UNKNOWN_MAX: Final = 300  # shapes of a pane that are not known yet; the others are not watched


def shapes_of_lines(partials: Iterable[LogPartial]) -> Iterator[ShapePartial]:
    """What is in time of each."""
    for partial in partials:
        panes = tuple((start_ms, _of_lines(block)) for start_ms, late, block in partial.panes if not late)
        if panes:
            yield ShapePartial(partial.env, partial.service, panes)


def logs_heard(partials: Iterable[LogPartial]) -> Iterator[LogsHeard]:
    """In which panes anybody logged in time, by environment."""
    panes: dict[str, set[int]] = {}
    for partial in partials:
        panes.setdefault(partial.env, set()).update(start_ms for start_ms, late, _ in partial.panes if not late)
    for env, found in sorted(panes.items()):
        if found:
            yield LogsHeard(env, tuple(sorted(found)))


def _of_lines(block: LogBlock) -> ShapePane:
    shapes: dict[str, int] = {}
    templates: dict[str, str] = {}
    for counted in block.patterns:
        if counted.pattern_id != OTHER_PATTERNS:
            name = LINE + counted.pattern_id
            shapes[name] = shapes.get(name, 0) + counted.count
            template = _template(counted.texts)
            templates[name] = min(template, templates.get(name, template))
    # What runs, spans say: logs may spell its version otherwise.
    return ShapePane({}, shapes, templates, (), ServiceInfo(), block.ranges)


@lru_cache(REMEMBERED_MAX)
def _template(texts: tuple[str, ...]) -> str:
    return template_of(texts)[:TEMPLATE_CHARS_MAX]


def shapes_of_spans(env: str, service: str, start_ms: int, block: SpanBlock) -> Iterator[ShapePartial]:
    """Requests and calls of a pane; nothing where there are neither."""
    requests: dict[str, int] = {}
    shapes: dict[str, int] = {}
    for row in rows(block):
        kind, dimension, name = row.key
        if dimension != DIMENSION_OPERATION:
            continue
        if kind in ENTRY_KINDS:
            for which, count in ((name or UNNAMED, row.spans - row.errors), (FAILED_REQUESTS, row.errors)):
                if count:
                    requests[which] = requests.get(which, 0) + count
        elif name != OTHER:
            shapes[f"{CALL}{kind}|{name}"] = row.spans
    if requests or shapes:
        pane = ShapePane(requests, shapes, {}, block.sampled, block.facts, block.ranges)
        yield ShapePartial(env, service, ((start_ms, pane),))


def merge_shape_panes(left: ShapePane, right: ShapePane, known: Collection[str], start_ms: int) -> ShapePane:
    """Both as one, of the pane that starts then. Of more than UNKNOWN_MAX operations, or shapes not known, some stay.

    Of shapes each pane chooses anew, so that among many that come once what comes always has its turn.
    """
    shapes = _sum(left.shapes, right.shapes)
    unknown = [name for name in shapes if name not in known]
    if len(unknown) > UNKNOWN_MAX:
        kept = set(nsmallest(UNKNOWN_MAX, unknown, key=lambda name: (crc32(f"{start_ms}|{name}".encode()), name)))
        shapes = {name: count for name, count in shapes.items() if name in known or name in kept}
    requests = _sum(left.requests, right.requests)
    if len(requests) > UNKNOWN_MAX:
        kept = set(nsmallest(UNKNOWN_MAX, (name for name in requests if name != OTHER_REQUESTS)))
        rest = sum(count for name, count in requests.items() if name not in kept)
        requests = {name: requests[name] for name in sorted(kept)} | {OTHER_REQUESTS: rest}
    wanted = shapes.keys() - set(known)  # known ones have their template
    templates = {name: text for name, text in right.templates.items() if name in wanted}
    for name, text in left.templates.items():
        if name in wanted:
            templates[name] = min(text, templates.get(name, text))
    return ShapePane(
        requests,
        shapes,
        templates,
        merge_sampled((*left.traces, *right.traces)),
        merge_info((left.facts, right.facts)),
        merge_ranges((*left.ranges, *right.ranges)),
    )


def _sum(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    found = dict(left)
    for name, count in right.items():
        found[name] = found.get(name, 0) + count
    return found
