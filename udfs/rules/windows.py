"""Windows of signals: merging and limits."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar
from zlib import crc32

from msgspec.structs import replace

from state_schemas.aggregates.rule_signals import RuleHit, ServiceEdge, SignalBatch, SignalWindow, SubjectSignal

__all__ = ["batches", "by_window", "merge_windows", "ordered_by_window", "signals_of"]

# Signals of one subject and window that fulfil one step: so many of the first and as many of the last are kept.
STEP_SIGNALS_MAX: Final = 1_000
# Signals of one bucket and window. Beyond it whole subjects are left out, chosen by their hash.
SIGNALS_MAX: Final = 20_000
Chunk = tuple[SubjectSignal, ...]
B = TypeVar("B", bound=SignalBatch)


def batches(kind: type[B], found: Iterable[SubjectSignal]) -> Iterator[B]:
    """Yield the signals in a batch of this kind for each environment and bucket, in their order."""
    grouped: dict[tuple[str, int], list[SubjectSignal]] = {}
    for signal in found:
        grouped.setdefault((signal.env, signal.bucket), []).append(signal)
    for (env, bucket), signals in sorted(grouped.items()):
        yield kind.of(env, bucket, signals)


def by_window(signals: Iterable[SubjectSignal], window_ms: int) -> Iterator[tuple[int, SignalWindow]]:
    """Yield the start and the contents of each window that has signals, ascending."""
    found: dict[int, list[SubjectSignal]] = {}
    for signal in signals:
        found.setdefault(_start_ms(signal, window_ms), []).append(signal)
    for start_ms, part in sorted(found.items()):
        yield start_ms, merge_windows((SignalWindow((union((part,)),)),))


def _start_ms(found: SubjectSignal, window_ms: int) -> int:
    return found.signal.at_ms - found.signal.at_ms % window_ms


def ordered_by_window(found: SubjectSignal, window_ms: int) -> SubjectSignal:
    """Return a record with the start of its window as its time, as episodes have it.

    Of a record and an episode of one window it is not known which came first.
    """
    signal = found.signal
    if signal.source == "insight":
        return found
    return replace(found, signal=replace(signal, at_ms=_start_ms(found, window_ms), exact_ms=signal.at_ms))


def merge_windows(parts: Iterable[SignalWindow]) -> SignalWindow:
    """Merge windows: what `signals_of` returns is associative, commutative and idempotent; O(log signals) amortised."""
    listed = list(parts)
    chunks = sorted((chunk for part in listed for chunk in part.chunks), key=len, reverse=True)
    dropped = sum(part.dropped for part in listed)
    merged: list[Chunk] = []
    for chunk in chunks:
        whole = chunk
        while merged and len(merged[-1]) < 2 * len(whole):
            whole = union((merged.pop(), whole))
        kept = _limited(whole)
        dropped += len(whole) - len(kept)
        merged.append(kept)
    return SignalWindow(tuple(merged), dropped, _joined(part.edges for part in listed))


def _joined(parts: Iterable[tuple[ServiceEdge, ...]]) -> tuple[ServiceEdge, ...]:
    """Return the edges of all parts, ascending. They come one by one: adding one costs a copy of the others."""
    largest, *others = sorted((*parts, ()), key=len, reverse=True)
    joined = list(largest)
    for edge in (edge for edges in others for edge in edges):
        place = bisect_left(joined, edge)
        if joined[place : place + 1] != [edge]:
            joined.insert(place, edge)
    return tuple(joined)


def signals_of(window: SignalWindow) -> Chunk:
    """Return the signals of a window, ascending by (at_ms, signal_id, subject)."""
    return _limited(union(window.chunks))


def union(chunks: Iterable[Iterable[SubjectSignal]]) -> Chunk:
    """Return the signals of all chunks, ascending by (at_ms, signal_id, subject), of each the highest revision.

    A span that was sent twice can have two forms of one revision: the one that orders first is kept.
    """
    held: dict[tuple[str, str], SubjectSignal] = {}
    for chunk in chunks:
        for found in chunk:
            key = (found.signal.signal_id, found.subject)
            before = held.get(key)
            if before is None or _rank(found) < _rank(before):
                held[key] = found
    return tuple(sorted(held.values(), key=_order))


def _rank(found: SubjectSignal) -> tuple[object, ...]:
    signal = found.signal
    return -signal.revision, signal.at_ms, signal.exact_ms, found.hits, signal.ranges, signal.title


def _order(found: SubjectSignal) -> tuple[int, str, str]:
    return found.signal.at_ms, found.signal.signal_id, found.subject


def _limited(chunk: Chunk) -> Chunk:
    """Return the signals within the limits of a window; in order."""
    if len(chunk) <= 2 * STEP_SIGNALS_MAX:
        return chunk
    groups: dict[tuple[str, tuple[RuleHit, ...]], list[SubjectSignal]] = {}
    for found in chunk:
        groups.setdefault((found.subject, found.hits), []).append(found)
    kept = [found for group in groups.values() for found in _both_ends(group)]
    if len(kept) > SIGNALS_MAX:
        kept = sorted(kept, key=lambda found: (crc32(found.subject.encode()), found.subject, *_order(found)))[
            :SIGNALS_MAX
        ]
    return tuple(sorted(kept, key=_order))


def _both_ends(group: list[SubjectSignal]) -> list[SubjectSignal]:
    if len(group) <= 2 * STEP_SIGNALS_MAX:
        return group
    return [*group[:STEP_SIGNALS_MAX], *group[-STEP_SIGNALS_MAX:]]
