"""Interface of machines: keyed state machines without engine, clock or I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from state_schemas.codec import Codec
from state_schemas.contracts.counters import MetricName
from state_schemas.telemetry.signals import SignalType

S = TypeVar("S")
E_contra = TypeVar("E_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)

BEGIN_OF_TIME: Final = -(2**63)  # the watermark before the first one
END_OF_INPUT: Final = 2**63 - 1  # the watermark after the last record of a bounded input, or at `stop --drain`


@dataclass(frozen=True, slots=True)
class Step(Generic[S, O_co]):
    """Result of one event or timer."""

    # None forgets the key.
    state: S | None
    # They go to the stages and sinks that take their type, and never refer to memory that the state still owns.
    outputs: tuple[O_co, ...] = ()
    # Event time, epoch ms. It replaces any earlier timer of this key; None cancels it.
    timer_at_ms: int | None = None
    # Increments of the metrics of this step.
    counts: tuple[tuple[MetricName, int], ...] = ()


class Machine(Protocol[S, E_contra, O_co]):
    """A keyed state machine. A call *consumes* the state: the machine may change it in place and return it.

    now_ms of a timer is the time that was asked for, never later, so results do not depend on how often an engine
    advances its watermark. At the end of a bounded input it is END_OF_INPUT: everything pending is emitted, nothing is
    concluded from missing records, and the state is forgotten.
    """

    @property
    def codec(self) -> Codec[S]: ...
    def initial(self, key: str) -> S: ...
    def on_event(self, state: S, event: E_contra, watermark_ms: int) -> Step[S, O_co]: ...
    def on_timer(self, state: S, now_ms: int) -> Step[S, O_co]: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A machine in the graph."""

    # Name of its state in savepoints; it never changes.
    uid: str
    machine: Machine[Any, Any, Any]
    # Type of its events: it receives every upstream output of this type.
    takes: type
    # Returns the key of an event.
    key_of: Callable[[Any], str]
    # Types of its outputs.
    gives: tuple[type, ...]
    # If set, only the fold of this signal type drives the stage and its event time, so results of one signal type never
    # wait for the topic of another.
    signal: SignalType | None = None

    def accepts(self, event: Any) -> bool:
        """Return whether the event drives this stage."""
        return isinstance(event, self.takes) and self.signal in (None, getattr(event, "signal", None))
