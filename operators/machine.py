"""Interface of machines: keyed state machines without engine, clock or I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Protocol, Self, TypeVar, runtime_checkable

from state_schemas.codec import Codec
from state_schemas.contracts.counters import LevelName, MetricName
from state_schemas.telemetry.signals import SignalType

S = TypeVar("S")
E_contra = TypeVar("E_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)

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
    # Values of this key that are added up over the keys of a subtask; those of a key that is forgotten are 0.
    levels: tuple[tuple[LevelName, int], ...] = ()


class Machine(Protocol[S, E_contra, O_co]):
    """A keyed state machine. A call *consumes* the state: the machine may change it in place and return it.

    takes: types of its events; an output of one of them, or of a subclass, is routed to it. gives: the exact type of
    each of its outputs.

    now_ms of a timer is the watermark: the time that was asked for, or a later one. At the end of a bounded input it is
    END_OF_INPUT: everything pending is emitted, nothing is concluded from missing records, and the state is forgotten.
    After a restore the watermark begins anew at BEGIN_OF_TIME, while states and timers are those of the checkpoint.
    """

    @property
    def takes(self) -> tuple[type, ...]: ...
    @property
    def gives(self) -> tuple[type, ...]: ...
    @property
    def codec(self) -> Codec[S]: ...
    def initial(self, key: str) -> S: ...
    def on_event(self, state: S, event: E_contra, watermark_ms: int) -> Step[S, O_co]: ...
    def on_timer(self, state: S, now_ms: int) -> Step[S, O_co]: ...


@runtime_checkable
class RuledMachine(Machine[S, E_contra, O_co], Protocol[S, E_contra, O_co, R_contra]):
    """A machine with a broadcast input: rules that hold for all its keys.

    rules: their type, with a `rule_id`. with_rules returns the machine with rules in place of those of the same id; it
    changes no state, and what it changes for a key shows with the next event or timer of that key. A rule has event
    times from which it holds, so that results do not depend on when it comes.
    """

    @property
    def rules(self) -> type: ...
    def with_rules(self, changes: Sequence[R_contra]) -> Self: ...


@dataclass(frozen=True, slots=True)
class Key:
    """How events are divided among states. fields: what a key is made of, for people."""

    fields: str
    of: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Stage:
    """A machine in the graph."""

    # Name of its state in savepoints; it never changes.
    uid: str
    machine: Machine[Any, Any, Any]
    key: Key
    # If set, only the fold of this signal type drives the stage and its event time, so results of one signal type never
    # wait for the topic of another.
    signal: SignalType | None = None


def with_rules(stage: Stage, rules: Sequence[Any]) -> Stage:
    """Return the stage with these rules in place of those of the same id; one without rules as it is."""
    machine = stage.machine
    return replace(stage, machine=machine.with_rules(rules)) if isinstance(machine, RuledMachine) else stage
