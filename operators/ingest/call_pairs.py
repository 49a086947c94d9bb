"""CallPairs: client spans find the server spans under them, across messages, partitions and time.

Driven by `CallSides`; puts out `SpanAggregate` with the calls of each caller, which join the caller's other spans in
LatencySpike. One state for each environment and bucket of trace hashes. Two halves meet when their messages were sent
within `pair_ms` of each other, in whatever order they come; a half is forgotten when none can bring its other one.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.calls import NAMED_SIDE_DTYPE, CallSides
from state_schemas.aggregates.spans import SpanAggregate
from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.state.call_pairs import CALL_PAIRS_CODEC, CallPairsState
from udfs.spans.calls import PairLimits, call_aggregates, named, pair, thinned, united

SAMPLING_LOG2_MAX: Final = 63
_Counts = tuple[tuple[MetricName, int], ...]


@dataclass(frozen=True, slots=True)
class CallPairsConfig:
    """sides_max: held in one bucket, half as many may wait to be joined. Beyond it those that have met go first, then
    every second trace, until they fit.

    The default holds 1,000 halves a second of an environment that wait for their other half; a fourth of it brings
    traces back.
    """

    limits: PairLimits = field(default_factory=PairLimits)
    sides_max: int = 4_096


class CallPairs:
    """See the module."""

    def __init__(self, config: CallPairsConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[CallPairsState]:
        return CALL_PAIRS_CODEC

    def initial(self, key: str) -> CallPairsState:
        env, _, bucket = key.partition("|")
        return CallPairsState(env, int(bucket), _none(env, int(bucket)))

    def on_event(
        self, state: CallPairsState, event: CallSides, watermark_ms: int
    ) -> Step[CallPairsState, SpanAggregate]:
        came = _count(event)
        event = thinned(event, state.sampling_log2)
        state.waiting.append(event)
        state.waiting_sides += _count(event)
        counts: _Counts = (("call_halves_dropped_total", came - _count(event)),)
        sides = np.frombuffer(event.sides, NAMED_SIDE_DTYPE)
        if len(sides):
            # Not by its end alone: a clock ahead would let it wait beyond the window of its other half.
            first_ms = min(int(sides["end_ns"].min()) // 1_000_000, int(sides["sent_ms"].min()))
            join_ms = self._join_after(max(first_ms, watermark_ms))
            state.join_at_ms = min(join_ms, state.join_at_ms or join_ms)
        out: tuple[SpanAggregate, ...] = ()
        if state.waiting_sides > self.config.sides_max // 2:
            out, joined = self._join(state, watermark_ms)
            counts += joined
        return Step(state, out, self._next_timer_ms(state, watermark_ms), counts)

    def on_timer(self, state: CallPairsState, now_ms: int) -> Step[CallPairsState, SpanAggregate]:
        out, counts = self._join(state, now_ms)
        if now_ms == END_OF_INPUT or not state.held.sides:
            return Step(None, out, None, (*counts, ("states_forgotten_total", 1)))
        if state.sampling_log2 and _count(state.held) < self.config.sides_max // 4:
            state.sampling_log2 -= 1
        return Step(state, out, self._next_timer_ms(state, now_ms), counts)

    def _join(self, state: CallPairsState, now_ms: int) -> tuple[tuple[SpanAggregate, ...], _Counts]:
        """Pairs all that is there, and lets go what has no time left or no room."""
        names = united([state.held, *state.waiting])
        calls = pair(names.sides, self.config.limits)
        out = call_aggregates(state.env, names, calls, self.config.limits)
        # Never under what int64 holds: numpy 2.1 crashes comparing 8,193 unaligned values with such a number.
        oldest_ms = max(0, now_ms - self.config.limits.pair_ms)
        sides = names.sides[names.sides["sent_ms"] >= oldest_ms]
        if len(sides) > self.config.sides_max:
            # They are kept for other server spans under the same client span, and for messages that come twice.
            sides = sides[sides["paired"] == 0]
        tables = (names.services, names.hosts, names.operations)
        state.held = named(state.env, state.bucket, sides, tables)
        state.waiting, state.waiting_sides, state.join_at_ms = [], 0, None
        while _count(state.held) > self.config.sides_max and state.sampling_log2 < SAMPLING_LOG2_MAX:
            state.sampling_log2 += 1
            state.held = thinned(state.held, state.sampling_log2)
        dropped = len(sides) - _count(state.held)
        return out, (("calls_paired_total", len(calls[0])), ("call_halves_dropped_total", dropped))

    def _join_after(self, at_ms: int) -> int:
        """The next moment at which LatencySpike reports a window or takes it as final: what is paired by then
        counts.
        """
        limits = self.config.limits
        phases = (0, limits.lateness_ms % limits.window_ms)
        return min(((at_ms - phase) // limits.window_ms + 1) * limits.window_ms + phase for phase in phases)

    def _next_timer_ms(self, state: CallPairsState, now_ms: int) -> int:
        # To forget can wait; to join cannot.
        if state.join_at_ms is not None:
            return max(now_ms + 1, state.join_at_ms)
        held: NDArray[np.void] = np.frombuffer(state.held.sides, NAMED_SIDE_DTYPE)
        newest_ms = int(held["sent_ms"].max(initial=now_ms))
        return self._join_after(max(now_ms, newest_ms + self.config.limits.pair_ms))


def _none(env: str, bucket: int) -> CallSides:
    return CallSides(env, bucket, (), (), (), b"")


def _count(part: CallSides) -> int:
    return len(part.sides) // NAMED_SIDE_DTYPE.itemsize
