"""The graph in one process, without Flink: replays, evaluations, tests, notebooks.

Event time, keys, timers and order of effects follow what `operators.runtime.flink` does on the engine; each message is
carried through the whole graph before the next is read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Stage, Step

Through = Callable[[Stage, Any], Any]


def unchanged(stage: Stage, state: Any) -> Any:
    """States stay live objects."""
    return state


def through_bytes(stage: Stage, state: Any) -> Any:
    """Each state goes through its codec after each step, as it would at a checkpoint."""
    return stage.machine.codec.decode(stage.machine.codec.encode(state))


class LocalGraph:
    """Stages in the order of the flow. What no stage takes comes out of `feed`, `advance` and `finish`.

    between: what happens to a state after a step; see `unchanged` and `through_bytes`.
    """

    def __init__(self, stages: Sequence[Stage], between: Through = unchanged) -> None:
        self._runners = [_Runner(stage, between) for stage in stages]
        self.counts: dict[str, int] = {}

    def feed(self, events: Iterable[Any]) -> list[Any]:
        """Outputs that these events caused at once; windows wait for `advance`."""
        out: list[Any] = []
        self._carry(events, 0, out)
        return out

    def advance(self, watermark_ms: int) -> list[Any]:
        """Event time has reached watermark_ms; it never goes back. Outputs in stage, time and key order."""
        out: list[Any] = []
        for place, runner in enumerate(self._runners):
            for step in runner.advance(watermark_ms):
                self._count(step)
                self._carry(step.outputs, place + 1, out)
        return out

    def finish(self) -> list[Any]:
        """The input has ended: everything pending goes out."""
        return self.advance(END_OF_INPUT)

    def state_bytes(self) -> dict[tuple[str, str], int]:
        """Size of every live state by (stage uid, key), encoded."""
        return {
            (runner.stage.uid, key): len(runner.stage.machine.codec.encode(state))
            for runner in self._runners
            for key, state in runner.states.items()
        }

    def _carry(self, events: Iterable[Any], first: int, out: list[Any]) -> None:
        for event in events:
            takers = [
                (place, runner)
                for place, runner in enumerate(self._runners)
                if place >= first and runner.stage.accepts(event)
            ]
            if not takers:
                out.append(event)
            for place, runner in takers:
                step = runner.on_event(event)
                self._count(step)
                self._carry(step.outputs, place + 1, out)

    def _count(self, step: Step[Any, Any]) -> None:
        for name, number in step.counts:
            self.counts[name] = self.counts.get(name, 0) + number


class _Runner:
    """One stage: its states, its timers, its watermark."""

    def __init__(self, stage: Stage, between: Through) -> None:
        self.stage = stage
        self.states: dict[str, Any] = {}
        self._between = between
        self._timers: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        self._watermark_ms = BEGIN_OF_TIME

    def on_event(self, event: Any) -> Step[Any, Any]:
        key = self.stage.key_of(event)
        machine = self.stage.machine
        state = self.states[key] if key in self.states else machine.initial(key)
        return self._commit(key, machine.on_event(state, event, self._watermark_ms))

    def advance(self, watermark_ms: int) -> Iterator[Step[Any, Any]]:
        assert watermark_ms >= self._watermark_ms, (
            f"watermark {watermark_ms} after {self._watermark_ms}: time went back"
        )
        self._watermark_ms = watermark_ms
        while self._queue and self._queue[0][0] <= watermark_ms:
            at_ms, key = heappop(self._queue)
            if self._timers.get(key) == at_ms:
                now_ms = END_OF_INPUT if watermark_ms == END_OF_INPUT else at_ms
                yield self._commit(key, self.stage.machine.on_timer(self.states[key], now_ms))

    def _commit(self, key: str, step: Step[Any, Any]) -> Step[Any, Any]:
        if step.state is None:
            self.states.pop(key, None)
            self._timers.pop(key, None)
            return step
        self.states[key] = self._between(self.stage, step.state)
        if step.timer_at_ms is None:
            self._timers.pop(key, None)
        elif self._timers.get(key) != step.timer_at_ms:
            self._timers[key] = step.timer_at_ms
            heappush(self._queue, (step.timer_at_ms, key))
        return step
