"""Fakes of the state, timers, watermark and metrics that Flink gives a process function for one key. No JVM."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from apache_beam.metrics.execution import MetricsContainer
from apache_beam.runners.worker.statesampler import for_test, get_current_tracker, set_current_tracker
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, ProcessFunction

from operators.machine import BEGIN_OF_TIME

Sent = list[tuple[str, Row]]  # (id of the side output, row)


class FakeValueState:
    """The value of one key; None where there is no value."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def value(self) -> Any:
        return self._value

    def update(self, value: Any) -> None:
        self._value = value

    def clear(self) -> None:
        self._value = None


@dataclass
class FakeTimers:
    """Event-time timers of one key.

    pending: registered timers; Flink holds them as a set. calls: registrations and deletions in order.
    """

    watermark_ms: int = BEGIN_OF_TIME
    pending: set[int] = field(default_factory=set)
    calls: list[tuple[str, int]] = field(default_factory=list)

    def current_watermark(self) -> int:
        return self.watermark_ms

    def register_event_time_timer(self, timestamp: int) -> None:
        self.calls.append(("register", timestamp))
        self.pending.add(timestamp)

    def delete_event_time_timer(self, timestamp: int) -> None:
        self.calls.append(("delete", timestamp))
        self.pending.discard(timestamp)


class FakeRuntimeContext:
    """Runtime context with state by the name of its descriptor, and counters by name."""

    def __init__(self, states: dict[str, FakeValueState] | None = None) -> None:
        self.states = states or {}
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, Callable[[], int]] = {}

    def get_state(self, descriptor: Any) -> FakeValueState:
        return self.states.setdefault(descriptor.get_name(), FakeValueState())

    def get_metrics_group(self) -> "FakeRuntimeContext":
        return self

    def counter(self, name: str) -> "FakeCounter":
        return FakeCounter(self.counts, name)

    def gauge(self, name: str, value: Callable[[], int]) -> None:
        self.gauges[name] = value


@dataclass
class FakeCounter:
    """A counter that adds to one number of `counts`; as Beam's, it loses what is added outside of a step."""

    counts: Counter[str]
    name: str

    def inc(self, number: int = 1) -> None:
        if get_current_tracker().current_state().metrics_container is not None:
            self.counts[self.name] += number


@dataclass
class FakeContext:
    """Context of an element: its timestamp in epoch ms, its key, and the timers of the key."""

    timers: FakeTimers
    timestamp_ms: int | None = None
    key: str = ""

    def timestamp(self) -> int | None:
        return self.timestamp_ms

    def get_current_key(self) -> str:
        return self.key

    def timer_service(self) -> FakeTimers:
        return self.timers


class FakeTask:
    """A running process function; a keyed one has one key."""

    def __init__(self, function: ProcessFunction | KeyedProcessFunction, key: str = "") -> None:
        self.timers = FakeTimers()
        self._key = key
        self._start(function, FakeRuntimeContext())

    def _start(self, function: ProcessFunction | KeyedProcessFunction, context: FakeRuntimeContext) -> None:
        self._function, self._context = function, context
        self._sampler = for_test()
        self._processing = self._sampler.scoped_state("step", "process", metrics_container=MetricsContainer("step"))
        function.open(context)

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._context.counts)

    @property
    def gauges(self) -> dict[str, int]:
        return {name: value() for name, value in self._context.gauges.items()}

    @property
    def states(self) -> dict[str, Any]:
        """Values of the key by name of the state, without cleared states."""
        return {name: state.value() for name, state in self._context.states.items() if state.value() is not None}

    def send(self, value: Row | bytes, timestamp_ms: int | None = None) -> Sent:
        set_current_tracker(self._sampler)
        with self._processing:
            return _sent(self._function.process_element(value, FakeContext(self.timers, timestamp_ms, self._key)))

    def fire(self, timestamp: int) -> Sent:
        """Fire a timer whether or not it is pending: Flink may fire a timer that is being deleted."""
        self.timers.pending.discard(timestamp)
        set_current_tracker(self._sampler)  # PyFlink enters no state
        return _sent(self._function.on_timer(timestamp, FakeContext(self.timers, timestamp, self._key)))

    def advance(self, watermark_ms: int) -> Sent:
        """Advance event time, then fire the timers that are due, in order of time."""
        self.timers.watermark_ms = watermark_ms
        out: Sent = []
        while due := [timer for timer in self.timers.pending if timer <= watermark_ms]:
            out += self.fire(min(due))
        return out

    def restart(self, function: ProcessFunction | KeyedProcessFunction) -> None:
        """Continue in another process from a savepoint: timers and pickled state are restored."""
        states = {name: FakeValueState(pickle.loads(pickle.dumps(value))) for name, value in self.states.items()}
        self._start(function, FakeRuntimeContext(states))


def _sent(outputs: Iterable[Any]) -> Sent:
    return [(tag.tag_id, row) for tag, row in outputs]
