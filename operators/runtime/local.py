"""The graph in one process, without Flink: replays, evaluations, tests, notebooks.

Event time, keys, timers and the order of outputs follow `operators.runtime.flink`; each message passes through the
whole graph before the next one is read.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from operators.machine import BEGIN_OF_TIME, END_OF_INPUT, Stage, Step, with_rules
from operators.runtime.routing import RULES, Sink, Takers, input_of, open_ends, routes, takers_of, unrouted
from state_schemas.aggregates.message import FoldedMessage
from state_schemas.telemetry.signals import SignalType

Through = Callable[[Stage, Any], Any]


def unchanged(stage: Stage, state: Any) -> Any:
    """Return the state as it is: states stay live objects."""
    return state


def through_bytes(stage: Stage, state: Any) -> Any:
    """Encode and decode the state with its codec, as at a checkpoint."""
    return stage.machine.codec.decode(stage.machine.codec.encode(state))


class LocalGraph:
    """Stages in the order of the flow. `feed`, `advance` and `finish` return the outputs that a sink takes.

    between: applied to a state after each step; see `unchanged` and `through_bytes`. sinks: None returns each output
    whose type no stage takes. unused: as for `routes`, which raises BadGraph where an output would be lost.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        between: Through = unchanged,
        sinks: Sequence[Sink] | None = None,
        unused: Collection[type] = (),
    ) -> None:
        table = routes(stages, open_ends(stages) if sinks is None else sinks, unused)
        self._runners = {stage.uid: _Runner(stage, between) for stage in stages}
        self._ways = {
            stage.uid: {given: self._way(given, found) for given, found in table.takers[stage.uid].items()}
            for stage in stages
        }
        self._entries: dict[tuple[type, SignalType | None], _Way] = {}
        self.counts: dict[str, int] = {}

    def feed(self, events: Iterable[Any]) -> list[Any]:
        """Feed events, return their immediate outputs; windows wait for `advance`. Rules are events of their type."""
        out: list[Any] = []
        for event in events:
            signal = event.signal if isinstance(event, FoldedMessage) else None
            self._carry(self._entry(type(event), signal), event, out)
        return out

    def advance(self, watermark_ms: int) -> list[Any]:
        """Move event time to watermark_ms, never back, and return the outputs in the order of stage, time and key."""
        out: list[Any] = []
        for runner in self._runners.values():
            self._settle(runner, runner.advance(watermark_ms), out)
        return out

    def finish(self) -> list[Any]:
        """End the input and return every pending output."""
        return self.advance(END_OF_INPUT)

    def fire(self, uid: str, key: str, now_ms: int) -> list[Any]:
        """Fire the timer of a key that has a state, as if it had asked for now_ms, and return the outputs."""
        out: list[Any] = []
        self._settle(self._runners[uid], (self._runners[uid].fire(key, now_ms),), out)
        return out

    def state(self, uid: str, key: str) -> Any:
        """Return the live state of a key of a stage, None where there is none."""
        return self._runners[uid].states.get(key)

    def restore(self, uid: str, key: str, state: Any) -> None:
        """Put a state in place of that of a key; the timer that the key has asked for stays."""
        self._runners[uid].states[key] = state

    def restart(self) -> None:
        """Go on as after a restore: states through their bytes, timers as they are, event time from its beginning."""
        for runner in self._runners.values():
            runner.restart()

    def state_bytes(self) -> dict[tuple[str, str], int]:
        """Return the encoded size of every live state by (stage uid, key)."""
        return {
            (uid, key): len(runner.stage.machine.codec.encode(state))
            for uid, runner in self._runners.items()
            for key, state in runner.states.items()
        }

    def _entry(self, given: type, signal: SignalType | None) -> "_Way":
        """Find the runners that take events of a type from outside the graph."""
        if (given, signal) not in self._entries:
            stages = [runner.stage for runner in self._runners.values() if runner.stage.signal == signal]
            way = self._way(given, takers_of((given,), stages, ())[given])
            assert way.inlets, f"fed a {given.__name__} of {signal}, expected an event that a stage of this graph takes"
            self._entries[given, signal] = way
        return self._entries[given, signal]

    def _way(self, given: type, takers: Takers[Sink]) -> "_Way":
        """Make the way of a type to the runners of its stages and out of the graph."""
        inlets = ((self._runners[stage.uid], input_of(stage, given) == RULES) for stage in takers.stages)
        return _Way(bool(takers.sinks), tuple(inlets))

    def _settle(self, runner: "_Runner", steps: Iterable[Step[Any, Any]], out: list[Any]) -> None:
        """Add up the counts of the steps of a stage, and carry the outputs of each on before the next step is made."""
        ways = self._ways[runner.stage.uid]
        for step in steps:
            for name, number in step.counts:
                self.counts[name] = self.counts.get(name, 0) + number
            for output in step.outputs:
                way = ways.get(type(output))
                assert way is not None, unrouted(runner.stage.uid, output, ways)
                self._carry(way, output, out)

    def _carry(self, way: "_Way", event: Any, out: list[Any]) -> None:
        if way.leaves:
            out.append(event)
        for runner, is_rules in way.inlets:
            if is_rules:
                runner.add_rules(event)
            else:
                self._settle(runner, (runner.on_event(event),), out)


class _Way(NamedTuple):
    """Way of the outputs of one type. leaves: out of the graph. inlets: (runner, whether the outputs are its rules)."""

    leaves: bool
    inlets: tuple[tuple["_Runner", bool], ...]


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
        key = self.stage.key.of(event)
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
            if self._timers.get(key) != at_ms:
                continue
            yield self.fire(key, watermark_ms)

    def fire(self, key: str, now_ms: int) -> Step[Any, Any]:
        return self._commit(key, self.stage.machine.on_timer(self.states[key], now_ms))

    def restart(self) -> None:
        self.states = {key: through_bytes(self.stage, state) for key, state in self.states.items()}
        self._watermark_ms = BEGIN_OF_TIME

    def add_rules(self, rules: Any) -> None:
        self.stage = with_rules(self.stage, (rules,))

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
