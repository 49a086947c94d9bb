"""Conditions on spans as bits, decided once for each value of a name, a resource or an attribute.

The bit of a condition is that of its place. A value decides a number, whose bits are the conditions that the value does
not contradict: the conditions that a span fulfils are the `and` of what its values decide. Columns hold these numbers
in blocks of 64 bits.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import reduce
from math import inf, nextafter
from operator import or_
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from state_schemas.telemetry.resource import Resource
from state_schemas.telemetry.spans import SPAN_KINDS, SpanColumns
from udfs.otlp.span_attributes import AttributeReader
from udfs.rules.conditions import STATUSES, Fields, FieldTest
from udfs.rules.records import ResourceFields, is_of_resource
from udfs.rules.span_fields import ATTRIBUTES, Rows, found_spans
from udfs.rules.span_kernels import asked_attributes, asked_names, fulfilled, narrow_attributes, narrow_names, rows_of

__all__ = ["SpanTests"]

# Characters of values whose decisions are remembered, beside those of the message at hand: 16 MB at most.
REMEMBERED_CHARS_MAX: Final = 4_000_000
RESOURCES_HELD_MAX: Final = 10_000  # objects, beside those of the message at hand
_WORD_BITS: Final = 64
_WORD: Final = (1 << _WORD_BITS) - 1
_NS_PER_MS: Final = 1_000_000

# Bounds of a duration, inclusive, by the order of a comparison.
_BOUNDS: Final[Mapping[str, Callable[[float], tuple[float, float]]]] = {
    "": lambda limit: (limit, limit),
    "gt": lambda limit: (nextafter(limit, inf), inf),
    "gte": lambda limit: (limit, inf),
    "lt": lambda limit: (-inf, nextafter(limit, -inf)),
    "lte": lambda limit: (-inf, limit),
}
_ANY: Final = (-inf, inf)
_NONE: Final = np.empty(0, np.intp)

_Value = TypeVar("_Value", bound=Hashable)
_Words = NDArray[np.uint64]


class _Decisions:
    """Tests, each with the bit of its condition. bits: of the conditions that have one."""

    def __init__(self, tests: Iterable[tuple[int, FieldTest]]) -> None:
        self.bits = 0
        # By field: the conditions that demand one of some texts, and those that each text fulfils.
        self._exact: dict[str, tuple[int, dict[str, int]]] = {}
        self._others: list[tuple[int, FieldTest]] = []
        for bit, test in tests:
            self.bits |= bit
            if test.exact:
                bits, by_text = self._exact.get(test.field, (0, {}))
                for text in test.exact:
                    by_text[text] = by_text.get(text, 0) | bit
                self._exact[test.field] = bits | bit, by_text
            else:
                self._others.append((bit, test))

    def decide(self, fields: Fields, left: int) -> int:
        """Return which of some conditions the fields do not contradict. O(tests that demand no exact text)."""
        for field, (bits, by_text) in self._exact.items():
            left &= ~bits | by_text.get(str(fields.get(field) or "").casefold(), 0)
        for bit, test in self._others:
            if left & bit and not test.holds(fields):
                left &= ~bit
        return left


class _Remembered(Generic[_Value]):
    """Decisions of values that come again in later messages. nothing: what is decided by a value without any test."""

    def __init__(self, decide: Callable[[_Value], int], nothing: int, blocks: range) -> None:
        self._decide, self._nothing, self._blocks = decide, nothing, blocks
        self._clear()

    def places(self, values: Sequence[_Value]) -> Rows:
        """Return the place of the decision of each value in the tables. O(values), and the tests of new ones."""
        try:
            return np.fromiter(map(self._places.__getitem__, values), np.intp, len(values))
        except KeyError:
            self._add(values)
        return np.fromiter(map(self._places.__getitem__, values), np.intp, len(values))

    def _add(self, values: Sequence[_Value]) -> None:
        if self._chars > REMEMBERED_CHARS_MAX:
            self._clear()
        before = len(self._decided)
        for value in values:
            if value not in self._places:
                self._chars += len(str(value))
                self._places[value] = self._decided.setdefault(self._decide(value), len(self._decided))
        if len(self._decided) > before:
            self.tables = [_words(self._decided, block) for block in self._blocks]

    def _clear(self) -> None:
        self._chars = 0
        self._places: dict[_Value, int] = {}
        # Place in the tables of each decision: values are many, their decisions are few. At place 0 nothing is decided.
        self._decided = {self._nothing: 0}
        self.tables = [_words(self._decided, block) for block in self._blocks]


class _RememberedResources(_Remembered[Resource]):
    """Decisions of resources. A decoder gives one object for the same bytes: it is known without its nine fields."""

    _by_id: dict[int, int]
    # While an object is held, no other one has its id.
    _held: dict[int, Resource]

    def places(self, values: Sequence[Resource]) -> Rows:
        try:
            return np.fromiter(map(self._by_id.__getitem__, map(id, values)), np.intp, len(values))
        except KeyError:
            places = super().places(values)
        if len(self._held) > RESOURCES_HELD_MAX:
            self._by_id, self._held = {}, {}
        self._by_id.update(zip(map(id, values), places.tolist(), strict=True))
        self._held.update(zip(map(id, values), values, strict=True))
        return places

    def _clear(self) -> None:
        super()._clear()
        self._by_id, self._held = {}, {}


class SpanTests:
    """The conditions on spans of all rules. It remembers decisions: use one instance for each thread.

    conditions: of each its tests, all of which must hold. reader: of the attributes that they test.
    """

    def __init__(self, conditions: Sequence[Sequence[FieldTest]], reader: AttributeReader) -> None:
        tests: dict[str, list[tuple[int, FieldTest]]] = {}
        for place, listed in enumerate(conditions):
            for test in listed:
                tests.setdefault(_decided_by(test), []).append((1 << place, test))
        every = (1 << len(conditions)) - 1
        name, resource, status, self._rest = (
            _Decisions(tests.get(kind, ())) for kind in ("name", "resource", "status", "")
        )
        attributes = [(ATTRIBUTES + name, _Decisions(tests.get(ATTRIBUTES + name, ()))) for name in reader.names]
        self._reader, self._blocks = reader, range(-(-len(conditions) // _WORD_BITS))
        self._resources = _RememberedResources(
            lambda found: resource.decide(ResourceFields(found), every), every, self._blocks
        )
        self._names = _Remembered[str](lambda text: name.decide({"name": text}, every), every, self._blocks)
        self._attributes = _Remembered[tuple[int, str]](
            lambda pair: attributes[pair[0]][1].decide({attributes[pair[0]][0]: pair[1]}, every), every, self._blocks
        )
        # Where the negative numbers of absent attributes find them: from the end on.
        self._absent = [(number, "") for number in reversed(range(len(attributes)))]
        self._status = self._in_blocks(_by_status(status, every))
        # The conditions that test the duration, with its bounds; those that test the name, and each attribute.
        bounds = [_bounds(listed) for listed in conditions]
        timed = sum(1 << place for place, found in enumerate(bounds) if found != _ANY)
        self._timed, self._named = ([words[0] for words in self._in_blocks([bits])] for bits in (timed, name.bits))
        bounds += (-len(bounds) % _WORD_BITS) * [_ANY]
        self._least, self._greatest = np.ascontiguousarray(np.transpose(bounds)).reshape(2, -1, _WORD_BITS)
        self._attributed = self._in_blocks([decisions.bits for _, decisions in attributes])
        self._by_name, self._by_attribute = name.bits, reduce(or_, (decisions.bits for _, decisions in attributes), 0)

    def _in_blocks(self, decided: Sequence[int]) -> list[_Words]:
        return [_words(decided, block) for block in self._blocks]

    def fulfilled(self, spans: SpanColumns, ok: NDArray[np.bool_], since_ms: int) -> dict[int, int]:
        """Return the conditions that spans fulfil, by row; only spans of `ok` that ended at since_ms or later do.

        O(spans x blocks), and O(attributes of spans for which all else holds).
        """
        found: dict[int, int] = {}
        resources = self._resources.places(spans.resources)
        since_ns = np.uint64(max(0, since_ms) * _NS_PER_MS)
        columns = (spans.resource, spans.kind, spans.error, spans.start_ns, spans.end_ns, ok, since_ns)
        words, listed = np.empty(len(ok), np.uint64), np.empty(len(ok), np.intp)
        for block in self._blocks:
            by_resource = self._resources.tables[block][resources]
            if np.count_nonzero(by_resource):
                bounds = self._timed[block], self._least[block], self._greatest[block]
                every = fulfilled(*columns, by_resource, self._status[block], *bounds, words)
                if every & self._by_name >> block * _WORD_BITS:
                    self._decide_names(block, spans, words)
                if every & self._by_attribute >> block * _WORD_BITS:
                    self._decide_attributes(block, spans, words)
                rows = listed[: rows_of(words, listed)] if every else _NONE
                for row, word in zip(rows.tolist(), words[rows].tolist(), strict=True):
                    found[row] = found.get(row, 0) | word << block * _WORD_BITS
        self._decide_rest(spans, found)
        return found

    def _decide_names(self, block: int, spans: SpanColumns, words: _Words) -> None:
        """Take from each word the conditions that the name of its span contradicts."""
        places, listed = np.empty((2, len(spans.names)), np.intp)
        asked = words, self._named[block], spans.name, places
        count = asked_names(*asked, listed)
        decided = self._names.places([spans.names[number] for number in listed[:count].tolist()])
        narrow_names(*asked, self._names.tables[block][decided])

    def _decide_attributes(self, block: int, spans: SpanColumns, words: _Words) -> None:
        """Take from each word the conditions that the attributes of its span contradict."""
        attributed = self._attributed[block]
        asked = np.empty((2, np.count_nonzero(words) * len(attributed)), np.intp)
        rows, names = asked[:, : asked_attributes(words, attributed, *asked)]
        if len(rows):
            read = self._reader.read(spans.encoded, rows, names)
            places = self._attributes.places([*zip(read.names.tolist(), read.texts, strict=True), *self._absent])
            narrow_attributes(words, rows, places[read.numbers], self._attributes.tables[block])

    def _decide_rest(self, spans: SpanColumns, found: dict[int, int]) -> None:
        """Take from each span the conditions that several of its fields contradict together."""
        rows = [row for row, bits in found.items() if bits & self._rest.bits]
        if not rows:
            return
        for span in found_spans(spans, np.array(rows, np.intp), self._reader):
            left = found[span.row] = self._rest.decide(span, found[span.row])
            if not left:
                del found[span.row]


def _decided_by(test: FieldTest) -> str:
    """Return what decides a test: resource, name, status (with the kind), duration_ms, an attribute; "" for several."""
    fields = test.fields
    if _bounds_of(test) is not None:
        return "duration_ms"
    if all(map(is_of_resource, fields)):
        return "resource"
    if fields <= {"status", "kind"}:
        return "status"
    return next(iter(fields)) if len(fields) == 1 and fields != {"duration_ms"} else ""


def _words(decided: Iterable[int], block: int) -> _Words:
    """Return the bits of a block of each number."""
    shift = block * _WORD_BITS
    return np.array([number >> shift & _WORD for number in decided], np.uint64)


def _by_status(decisions: _Decisions, every: int) -> list[int]:
    """Return what kind and status decide: at 2 * kind + error."""
    pairs = ((kind, status) for kind in SPAN_KINDS for status in STATUSES)
    return [decisions.decide({"kind": kind, "status": status}, every) for kind, status in pairs]


def _bounds(tests: Iterable[FieldTest]) -> tuple[float, float]:
    """Return the least and the greatest duration for which all tests of the duration hold, those that have bounds."""
    found = [bounds for test in tests if (bounds := _bounds_of(test)) is not None]
    return max((least for least, _ in found), default=-inf), min((greatest for _, greatest in found), default=inf)


def _bounds_of(test: FieldTest) -> tuple[float, float] | None:
    """Return the least and the greatest duration for which a test holds; None where it holds for others than between.

    That is a test of another field, a list of durations, or a negated one.
    """
    is_list = len(test.numbers) > 1 and not test.numbers[0].order
    if test.field != "duration_ms" or test.other or test.negated or is_list:
        return None
    if not test.numbers:
        return _ANY if test.must_exist else (inf, -inf)
    bounds = [_BOUNDS[comparison.order](comparison.limit) for comparison in test.numbers]
    return min(least for least, _ in bounds), max(greatest for _, greatest in bounds)
