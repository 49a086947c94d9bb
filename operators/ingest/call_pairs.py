"""Pairing of client spans with the server spans under them, across messages, partitions and time.

Input: `CallSides`. Output: `SpanAggregate` with the calls of each caller; the latency detector merges them with the
other spans of the caller. There is one state for each environment and bucket of trace hashes. Two call sides are paired
when their messages were sent within `pair_ms` of each other, in any order. A call side is dropped when its other side
cannot arrive any more.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.calls import CALL_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.contracts.counters import MetricName
from state_schemas.state.call_pairs import CALL_PAIRS_CODEC, CallPairsState
from udfs.spans.calls import PairLimits, thinned, united

SAMPLING_LOG2_MAX: Final = 63
_Counts = tuple[tuple[MetricName, int], ...]


class CallPairs:
    """The machine that pairs call sides; see the module."""

    codec = CALL_PAIRS_CODEC
    takes = (CallSides,)
    gives = (SpanAggregate,)

    def __init__(self, limits: PairLimits) -> None:
        self.limits = limits

    def initial(self, key: str) -> CallPairsState:
        env, _, bucket = key.partition("|")
        return CallPairsState(env, int(bucket), CallSides(env, int(bucket), (), (), (), b""))

    def on_event(
        self, state: CallPairsState, event: CallSides, watermark_ms: int
    ) -> Step[CallPairsState, SpanAggregate]:
        came = _count(event)
        event = thinned(event, state.sampling_log2)
        state.waiting.append(event)
        state.waiting_sides += _count(event)
        counts: _Counts = (("call_sides_dropped_total", came - _count(event)),)
        sides = np.frombuffer(event.sides, CALL_SIDE_DTYPE)
        if len(sides):
            # Not by the end of the span alone: with a clock that is ahead, it would wait past the other side's window.
            first_ms = min(int(sides["end_ns"].min()) // 1_000_000, int(sides["sent_ms"].min()))
            join_ms = self._join_after(max(first_ms, watermark_ms))
            state.join_at_ms = min(join_ms, state.join_at_ms or join_ms)
        out: tuple[SpanAggregate, ...] = ()
        if state.waiting_sides > self.limits.sides_max // 2:
            out, joined = self._join(state, watermark_ms)
            counts += joined
        return Step(state, out, self._next_timer_ms(state, watermark_ms), counts)

    def on_timer(self, state: CallPairsState, now_ms: int) -> Step[CallPairsState, SpanAggregate]:
        out, counts = self._join(state, now_ms)
        if now_ms == END_OF_INPUT or not state.held.sides:
            return Step(None, out, None, (*counts, ("states_forgotten_total", 1)))
        if state.sampling_log2 and _count(state.held) < self.limits.sides_max // 4:
            state.sampling_log2 -= 1
        return Step(state, out, self._next_timer_ms(state, now_ms), counts)

    def _join(self, state: CallPairsState, now_ms: int) -> tuple[tuple[SpanAggregate, ...], _Counts]:
        """Pair all call sides that are present; drop those that are too old or exceed the limit."""
        names = united([state.held, *state.waiting])
        calls = names.paired(self.limits)
        out = calls.aggregates(state.env, self.limits)
        # Never below the range of int64: numpy 2.1 crashes when it compares 8,193 unaligned values with such a number.
        oldest_ms = max(0, now_ms - self.limits.pair_ms)
        sides = names.sides[names.sides["sent_ms"] >= oldest_ms]
        if len(sides) > self.limits.sides_max:
            # Paired sides are kept for further server spans under the client span and for messages that arrive twice.
            sides = sides[sides["paired"] == 0]
        state.held = names._replace(sides=sides).packed(state.env, state.bucket)
        state.waiting, state.waiting_sides, state.join_at_ms = [], 0, None
        while _count(state.held) > self.limits.sides_max and state.sampling_log2 < SAMPLING_LOG2_MAX:
            state.sampling_log2 += 1
            state.held = thinned(state.held, state.sampling_log2)
        dropped = len(sides) - _count(state.held)
        return out, (("calls_paired_total", len(calls.client)), ("call_sides_dropped_total", dropped))

    def _join_after(self, at_ms: int) -> int:
        """Return the next time at which the latency detector evaluates a window early or finally.

        Calls that are paired by then count in that evaluation.
        """
        limits = self.limits
        phases = (0, limits.lateness_ms % limits.window_ms)
        return min(((at_ms - phase) // limits.window_ms + 1) * limits.window_ms + phase for phase in phases)

    def _next_timer_ms(self, state: CallPairsState, now_ms: int) -> int:
        # Dropping old call sides can wait; pairing cannot.
        if state.join_at_ms is not None:
            return max(now_ms + 1, state.join_at_ms)
        held: NDArray[np.void] = np.frombuffer(state.held.sides, CALL_SIDE_DTYPE)
        newest_ms = int(held["sent_ms"].max(initial=now_ms))
        return self._join_after(max(now_ms, newest_ms + self.limits.pair_ms))


def _count(part: CallSides) -> int:
    return len(part.sides) // CALL_SIDE_DTYPE.itemsize
