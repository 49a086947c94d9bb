"""The routing table from the outputs of each stage to stages and sinks. Computed once, for both engines."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from operators.ingest.fold import Fold
from operators.machine import RuledMachine, Stage
from state_schemas.contracts.tables import ColumnType
from state_schemas.telemetry.signals import SIGNALS, SignalType

RULES: Final = -1  # number of the input of a stage that receives rules; inputs of events count from 0


class BadGraph(ValueError):
    """The stages and sinks of a job do not fit together. The text has every fault."""


@dataclass(frozen=True)
class Sink:
    """Exit of the graph for the outputs of one type and of its subclasses."""

    name: str
    takes: type


@dataclass(frozen=True)
class SinkRows(Sink):
    """Conversion of the outputs of one type to rows of the side output `name`. Plain data, which can be shipped."""

    columns: tuple[tuple[str, ColumnType], ...]
    to_row: Callable[[Any], Sequence[Any]]


K = TypeVar("K", bound=Sink)


@dataclass(frozen=True, slots=True)
class Takers(Generic[K]):
    """Every stage and sink that takes one type of output. Where there is none, outputs are dropped on purpose."""

    stages: tuple[Stage, ...] = ()
    sinks: tuple[K, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stages or self.sinks)


@dataclass(frozen=True, slots=True)
class RoutingTable(Generic[K]):
    """Takers of every output of every step."""

    # By uid of the stage or fold, in the order of the flow, then by the exact type of its output.
    takers: Mapping[str, Mapping[type, Takers[K]]]

    def stages_after(self, uid: str) -> tuple[Stage, ...]:
        """List every stage that takes an output of this one, once."""
        return tuple({stage.uid: stage for takers in self.takers[uid].values() for stage in takers.stages}.values())

    def sinks_after(self, uid: str) -> tuple[K, ...]:
        """List every sink that takes an output of this stage, once."""
        return tuple({sink.name: sink for takers in self.takers[uid].values() for sink in takers.sinks}.values())


def routes(stages: Sequence[Stage], sinks: Sequence[K], unused: Collection[type] = ()) -> RoutingTable[K]:
    """Route every type that a fold or a stage gives to all sinks and later stages that take it.

    unused: types that nothing takes in this job, on purpose. Raises BadGraph with every other type that nothing takes,
    and with every unused one that is taken or not given at all.
    """
    table = {uid: takers_of(gives, later, sinks) for uid, gives, later in _sources(stages)}
    untaken = [(uid, given) for uid, takers in table.items() for given, found in takers.items() if not found]
    faults = [
        f"{uid} gives {given.__name__}, expected a later stage or a sink that takes it; "
        "add one, or name the type in `unused` of the job"
        for uid, given in untaken
        if given not in unused
    ]
    stale = [named for named in unused if named not in {given for _, given in untaken}]
    faults += [
        f"`unused` of the job names {named.__name__}, expected types that are given and not taken; take it out"
        for named in stale
    ]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        message = f"the graph has {len(faults)} faults, nothing was started:\n{lines}"
        raise BadGraph(message)
    return RoutingTable(table)


def takers_of(gives: Iterable[type], stages: Sequence[Stage], sinks: Sequence[K]) -> dict[type, Takers[K]]:
    """Find which of these stages and sinks take each of these types, in their order."""
    return {
        given: Takers(
            tuple(stage for stage in stages if input_of(stage, given) is not None),
            tuple(sink for sink in sinks if issubclass(given, sink.takes)),
        )
        for given in gives
    }


def input_of(stage: Stage, given: type) -> int | None:
    """Find the input of a stage that takes a type: its index in `takes`, or RULES; None where no input does."""
    if isinstance(stage.machine, RuledMachine) and issubclass(given, stage.machine.rules):
        return RULES
    return next((place for place, takes in enumerate(stage.machine.takes) if issubclass(given, takes)), None)


def open_ends(stages: Sequence[Stage]) -> tuple[Sink, ...]:
    """Make a sink for each type that a stage gives and no later one takes."""
    none: Sequence[Sink] = ()
    table = [takers_of(gives, later, none) for _, gives, later in _sources(stages)]
    left = {given: None for takers in table for given, found in takers.items() if not found}
    return tuple(Sink(given.__name__, given) for given in left)


def fold_uid(signal: SignalType) -> str:
    """Name the step that folds the messages of a signal."""
    return f"fold-{signal}"


def unrouted(uid: str, output: object, known: Iterable[type]) -> str:
    """Describe an output that has no route."""
    names = ", ".join(sorted(given.__name__ for given in known)) or "none"
    return (
        f"{uid} put out a {type(output).__name__}, expected one of the types that its machine gives and something "
        f"takes: {names}; add the type to `gives`"
    )


def _sources(stages: Sequence[Stage]) -> Iterator[tuple[str, tuple[type, ...], list[Stage]]]:
    """Yield the uid of each fold and stage, the types that it gives, and the stages that come after it."""
    for signal in SIGNALS:
        if driven := [stage for stage in stages if stage.signal == signal]:
            yield fold_uid(signal), Fold.gives, driven
    for number, stage in enumerate(stages, 1):
        yield stage.uid, stage.machine.gives, [later for later in stages[number:] if later.signal is None]
