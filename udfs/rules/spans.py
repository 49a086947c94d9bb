"""Signals of spans: the spans of one Kafka message that fulfil a step of a rule, found by whole columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state_schemas.aggregates.rule_signals import Signal
from state_schemas.telemetry.message import KafkaPosition
from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SPAN_KINDS, SpanColumns
from udfs.otlp.resource import short_name
from udfs.rules.compiled import RuleEntry, RuleIndex, by_of
from udfs.rules.conditions import STATUSES, Fields, FieldTest, FieldValue
from udfs.rules.records import OF_RESOURCE, Found, OfRecord, capped, signals_of_record, value_of_resource
from udfs.rules.relations import known_hosts

__all__ = ["SpanRules"]

REMEMBERED_MAX: Final = 20_000  # values for which a test is decided already
_NS_PER_MS: Final = 1_000_000
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


class _Test:
    """A test with its decisions for values of names and resources, which are the same in most messages."""

    def __init__(self, test: FieldTest) -> None:
        self.test = test
        # Place among the tests of a condition: what rejects most at the least cost comes first.
        self.rank = next(place for place, fields in enumerate(_RANKS) if test.fields <= fields)
        self._known: dict[object, bool] = {}

    def holds(self, key: object, fields: Fields) -> bool:
        """Return whether the test holds; key: names the values of the fields that it reads."""
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            known = self._known[key] = self.test.holds(fields)
        return known


_ALL: Final = frozenset(("name", "kind", "status", "duration_ms", *OF_RESOURCE))
_RANKS: Final = ({"name"}, OF_RESOURCE, {"status"}, {"kind"}, {"duration_ms"}, _ALL)


class _Entry(NamedTuple):
    entry: RuleEntry
    # Of each alternative the tests, by rank.
    alternatives: tuple[tuple[_Test, ...], ...]


class _Wanted:
    """The exact values that rules demand of a field, case-folded; it remembers which texts are one of them."""

    def __init__(self, index: RuleIndex, field: str) -> None:
        entries = (entry for listed in index.entries.get("span", {}).values() for entry in listed)
        tests = (test for entry in entries for tests in entry.conditions.alternatives for test in tests)
        self._wanted = frozenset(name for test in tests if test.field == field for name in test.exact)
        self._known: dict[str, str] = {}

    def places(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Return the places of the texts that are wanted, by their case-folded text."""
        known, found = self._known, dict[str, list[int]]()
        for place, text in enumerate(texts):
            folded = known.get(text)
            if folded is None:
                folded = self._remembered(text)
            if folded:
                found.setdefault(folded, []).append(place)
        return found

    def _remembered(self, text: str) -> str:
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        folded = text.casefold()
        known = self._known[text] = folded if folded in self._wanted else ""
        return known


class SpanRules:
    """The conditions on spans of all rules. It holds decisions: use one instance for each thread."""

    def __init__(self, index: RuleIndex) -> None:
        self._index = index
        self._names, self._services = _Wanted(index, "name"), _Wanted(index, "service")
        self._entries = {
            key: [_Entry(entry, _prepared(entry)) for entry in entries]
            for key, entries in index.entries.get("span", {}).items()
        }

    def signals(self, spans: SpanColumns, ok: Mask, at: KafkaPosition, since_ms: int = 0) -> Found:
        """Return the signals of the spans of `ok` that ended at since_ms or later.

        O(spans + spans that fulfil a part of a rule).
        """
        if not self._entries or not ok.any():
            return Found()
        services = [resource.service for resource in spans.resources]
        columns = _Columns(spans, ok, since_ms, self._names.places(spans.names), self._services.places(services))
        found: dict[int, list[RuleEntry]] = {}
        for entry, alternatives in self._possible(columns):
            rows = [columns.fulfilling(tests).tolist() for tests in alternatives]
            for row in rows[0] if len(rows) == 1 else sorted(set().union(*rows)):
                if entry.holds_at(int(columns.end_ms[row])):
                    found.setdefault(row, []).append(entry)
        return capped(
            signal for row in sorted(found) for signal in _of_row(columns, row, found[row], (at, self._index))
        )

    def _possible(self, columns: "_Columns") -> Iterator[_Entry]:
        """Yield the entries that demand nothing, or a name, a service or a kind that the message has."""
        keys = {
            ("", ""),
            *(("name", name) for name in columns.names),
            *(("service", name) for name in columns.services),
        }
        keys |= {("kind", kind) for kind in SPAN_KINDS}
        for key in sorted(keys & self._entries.keys()):
            yield from self._entries[key]


def _prepared(entry: RuleEntry) -> tuple[tuple[_Test, ...], ...]:
    return tuple(
        tuple(sorted(map(_Test, tests), key=lambda test: test.rank)) for tests in entry.conditions.alternatives
    )


class _Columns:
    """The spans of a message.

    - ok, since_ms: spans can be signals where ok is true, if they ended at since_ms or later.
    - names, services: the wanted ones, case-folded, with their places.
    """

    def __init__(
        self,
        spans: SpanColumns,
        ok: Mask,
        since_ms: int,
        names: Mapping[str, list[int]],
        services: Mapping[str, list[int]],
    ) -> None:
        self.spans, self.names, self.services = spans, names, services
        self.end_ms = (spans.end_ns // _NS_PER_MS).astype(np.int64)
        self._ok = ok & (self.end_ms >= since_ms)
        self._rows_of_name: dict[int, Rows] = {}

    @cached_property
    def duration_ms(self) -> NDArray[np.float64]:
        return (self.spans.end_ns - self.spans.start_ns).astype(np.float64) / _NS_PER_MS

    @cached_property
    def duration_bounds_ms(self) -> tuple[float, float]:
        return float(self.duration_ms.min()), float(self.duration_ms.max())

    @cached_property
    def rows(self) -> Rows:
        return np.flatnonzero(self._ok)

    @cached_property
    def rows_of_status(self) -> tuple[Rows, Rows]:
        return np.flatnonzero(self._ok & ~self.spans.error), np.flatnonzero(self._ok & self.spans.error)

    def fulfilling(self, tests: Sequence[_Test]) -> Rows:
        """Return the spans for which all tests hold, ascending."""
        if not all(self._can_hold(test.test) for test in tests):
            return _NONE
        rows: Rows | None = None
        for test in tests:
            rows = self._narrowed(test, rows)
            if not rows.size:
                return _NONE
        return self.rows if rows is None else rows

    def _can_hold(self, test: FieldTest) -> bool:
        """Return whether a test can hold for a span of the message, by what is cheap to know."""
        if test.exact and test.field in ("name", "service") and not test.other:
            return not test.exact.isdisjoint(self.names if test.field == "name" else self.services)
        if test.numbers and test.field == "duration_ms":
            return any(comparison.can_hold(*self.duration_bounds_ms) for comparison in test.numbers)
        return True

    def _narrowed(self, test: _Test, rows: Rows | None) -> Rows:
        """Return the spans of these for which the test holds; None stands for all that can be signals."""
        rank, spans = test.rank, self.spans
        if rank == 0:
            return self._of_names(test, rows)
        if rank == 1:
            return self._where(self._of_resources(test), spans.resource, rows)
        if rank == 2:
            return self._of_status(test, rows)
        if rank == 3:
            return self._where([test.holds(kind, {"kind": kind}) for kind in SPAN_KINDS], spans.kind, rows)
        among = self.rows if rows is None else rows
        if rank == 4 and test.test.numbers:
            duration_ms = self.duration_ms[among]
            fulfilled: Mask = np.logical_or.reduce([found.holds(duration_ms) for found in test.test.numbers])
            return among[fulfilled]
        return np.array([row for row in among.tolist() if test.test.holds(self.fields(row))], np.intp)

    def _of_resources(self, test: _Test) -> "Sequence[bool] | Mask":
        """Return for which resources the test holds."""
        resources, field, other = self.spans.resources, test.test.field, test.test.other
        if test.test.exact and field == "service":
            holds = np.zeros(len(resources), np.bool_)
            holds[[place for name in test.test.exact for place in self.services.get(name, ())]] = True
            return holds
        if other:
            return [test.holds(resource, _ResourceFields(resource)) for resource in resources]
        values: list[str] = [getattr(resource, field) for resource in resources]
        return [test.holds(value, {field: value}) for value in values]

    def _of_names(self, test: _Test, rows: Rows | None) -> Rows:
        exact = test.test.exact
        if exact:
            places = sorted(place for name in exact for place in self.names.get(name, ()))
        else:
            places = [place for place, name in enumerate(self.spans.names) if test.holds(name, {"name": name})]
        if rows is None and len(places) == 1:
            return self._rows_with_name(places[0])
        holds = np.zeros(len(self.spans.names), np.bool_)
        holds[places] = True
        return self._where(holds, self.spans.name, rows)

    def _rows_with_name(self, place: int) -> Rows:
        rows = self._rows_of_name.get(place)
        if rows is None:
            rows = self._rows_of_name[place] = np.flatnonzero((self.spans.name == place) & self._ok)
        return rows

    def _of_status(self, test: _Test, rows: Rows | None) -> Rows:
        holds = [test.holds(status, {"status": status}) for status in STATUSES]
        if rows is None and sum(holds) == 1:
            return self.rows_of_status[holds.index(True)]
        return self._where(holds, self.spans.error.view(np.uint8), rows)

    def _where(self, holds: "Sequence[bool] | Mask", index: NDArray[np.generic], rows: Rows | None) -> Rows:
        """Return the spans of these whose value holds; index: of the value of each span."""
        among = self.rows if rows is None else rows
        decided = np.asarray(holds, np.bool_)
        if decided.all():
            return among
        return among[decided[index[among]]] if decided.any() else _NONE

    def fields(self, row: int) -> "_SpanFields":
        spans = self.spans
        return _SpanFields(
            spans.resources[spans.resource[row]],
            {
                "name": spans.names[spans.name[row]],
                "kind": SPAN_KINDS[spans.kind[row]],
                "status": STATUSES[int(spans.error[row])],
                "duration_ms": float(self.duration_ms[row]),
            },
        )


_NONE: Final[Rows] = np.empty(0, np.intp)


def _of_row(
    columns: _Columns, row: int, entries: Sequence[RuleEntry], of: tuple[KafkaPosition, RuleIndex]
) -> Iterator[OfRecord]:
    """Yield the signals of one span. of: the place of its message, and the rules."""
    (at, index), spans = of, columns.spans
    fields, resource = columns.fields(row), spans.resources[spans.resource[row]]
    trace_id, span_id = spans.trace_id[row].tobytes().hex(), spans.span_id[row].tobytes().hex()
    has_trace, name = int(trace_id, 16) > 0, str(fields.get("name"))
    # Both sides of a call can share an id, as with B3; a span without one is known by its place.
    signal_id = f"{trace_id}|{span_id}|{resource.qualified_service}|{fields.get('kind')}"
    if not (has_trace and int(span_id, 16)):
        signal_id = f"{at.topic}|{at.partition}|{at.offset}|{row}"
    signal = Signal(
        at_ms=int(columns.end_ms[row]),
        signal_id=signal_id,
        revision=0,
        source="span",
        service=resource.qualified_service,
        title=f"{name}: {fields.get('status')}, {columns.duration_ms[row]:.0f} ms",
        trace_ids=(trace_id,) if has_trace else (),
        ranges=(at.range,),
        hosts=known_hosts((resource.host,)),
    )
    values = {
        "trace": trace_id if has_trace else None,
        "operation": f"{resource.qualified_service}|{short_name(name)}",
    }
    for by, hits in by_of((entry.by, entry.hit(fields)) for entry in entries).items():
        value = values.get(by) if by in values else value_of_resource(resource, by)
        if value is not None:
            yield from signals_of_record(resource.env, f"{by}|{value}", signal, hits, index)


@dataclass(frozen=True, slots=True)
class _ResourceFields:
    resource: Resource

    def get(self, name: str, /) -> FieldValue | None:
        return str(getattr(self.resource, name)) or None


@dataclass(frozen=True, slots=True)
class _SpanFields:
    resource: Resource
    own: Mapping[str, FieldValue]

    def get(self, name: str, /) -> FieldValue | None:
        return self.own[name] if name in self.own else _ResourceFields(self.resource).get(name)
