"""The one interface that a detector implements: a keyed state machine without engine, clock or I/O."""

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
    """What one event or timer did.

    state=None forgets the key. outputs go to the stages and sinks that take their type; they never refer to memory
    that the state still owns. timer_at_ms: event time, epoch ms; replaces any earlier timer of this key; None cancels
    it. counts feed the metrics of this step.
    """

    state: S | None
    outputs: tuple[O_co, ...] = ()
    timer_at_ms: int | None = None
    counts: tuple[tuple[MetricName, int], ...] = ()


class Machine(Protocol[S, E_contra, O_co]):
    """A state is *consumed* by a call: the machine may change it in place and return it.

    now_ms of a timer is the time that was asked for, never later, so that results do not depend on how often an engine
    moves its watermark; only at the end of a bounded input it is END_OF_INPUT: everything pending goes out, nothing is
    concluded from silence, and the state is forgotten.
    """

    @property
    def codec(self) -> Codec[S]: ...
    def initial(self, key: str) -> S: ...
    def on_event(self, state: S, event: E_contra, watermark_ms: int) -> Step[S, O_co]: ...
    def on_timer(self, state: S, now_ms: int) -> Step[S, O_co]: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A machine in the graph. uid names its state in savepoints and never changes.

    takes: the type of event it is driven by; every upstream output of that type comes here. key_of: the event's key.
    gives: the types of its outputs. signal: it is driven by the fold of this signal type alone, and so is its event
    time: what follows from one signal never waits for the topic of another.
    """

    uid: str
    machine: Machine[Any, Any, Any]
    takes: type
    key_of: Callable[[Any], str]
    gives: tuple[type, ...]
    signal: SignalType | None = None

    def accepts(self, event: Any) -> bool:
        """Whether the event drives this stage."""
        return isinstance(event, self.takes) and self.signal in (None, getattr(event, "signal", None))
