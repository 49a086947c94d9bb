"""Signals of sequence rules: what happened to one service, host, operation, trace or environment, and when."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple, Self

import msgspec

from state_schemas.codec import PackedTuple
from state_schemas.contracts.rules import SourceName
from state_schemas.telemetry.message import OffsetRange


class RuleHit(NamedTuple):
    """A step of a rule that a signal fulfils."""

    # Key of the rule, see `udfs.rules.compiled`.
    rule: str
    # Index of the step in the rule, and of the part where all parts must come.
    step: int
    part: int
    # Value of the field whose distinct values the step counts; "" where it counts none.
    value: str = ""


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One signal, with all that a timeline shows of it."""

    # Event time in epoch ms, and an id that is a function of the source: signals are ordered by the two.
    at_ms: int
    signal_id: str
    # The highest revision of a signal holds.
    revision: int
    source: SourceName
    # With its namespace; "" for a whole environment.
    service: str
    title: str
    # Of the insight, "" for another source.
    insight_id: str = ""
    trace_ids: tuple[str, ...] = ()
    ranges: tuple[OffsetRange, ...] = ()
    # Hosts that it concerns, ascending.
    hosts: tuple[str, ...] = ()
    # Of a record that is ordered by its window, its own time; 0 where at_ms is that.
    exact_ms: int = 0


class SubjectSignal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A signal of one subject, with the steps of rules that it fulfils; none where a later revision fulfils none."""

    env: str
    # Of the subject, see `udfs.rules.subjects.bucket_of`.
    bucket: int
    # What rules have in common, `by|value`, such as `service|cart`.
    subject: str
    signal: Signal
    hits: tuple[RuleHit, ...]


class RuleSignal(SubjectSignal, frozen=True, array_like=True, gc=False):
    """A signal for rules with steps that are insights, which come up to half an hour after their time."""


class RecordSignal(SubjectSignal, frozen=True, array_like=True, gc=False):
    """A signal for rules whose steps are all records, so that nothing is held for longer than records can be late."""


RULE_SIGNALS: Final = PackedTuple(RuleSignal)
RECORD_SIGNALS: Final = PackedTuple(RecordSignal)


class SignalBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The signals of the subjects of a bucket, in any order, that came together: an event each costs more."""

    # How its signals are packed.
    packing: ClassVar[PackedTuple[Any]]
    env: str
    bucket: int
    packed: bytes

    @classmethod
    def of(cls, env: str, bucket: int, signals: Sequence[SubjectSignal]) -> Self:
        return cls(env, bucket, cls.packing.pack(signals))

    @property
    def signals(self) -> tuple[SubjectSignal, ...]:
        return self.packing.unpack(self.packed)


class RuleSignalBatch(SignalBatch, frozen=True, array_like=True, gc=False):
    """Signals for rules with steps that are insights."""

    packing = RULE_SIGNALS


class RecordSignalBatch(SignalBatch, frozen=True, array_like=True, gc=False):
    """Signals for rules whose steps are all records."""

    packing = RECORD_SIGNALS


class RuleClock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Windows in which an environment had telemetry: by them a rule concludes that something did not come."""

    env: str
    bucket: int
    # Starts, ascending, epoch ms.
    windows: tuple[int, ...]


class ServiceEdge(NamedTuple):
    """Two services, with their namespaces, of which one calls the other."""

    caller: str
    callee: str


class RuleEdge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A window in which a service called another: the relations between steps of rules. start_ms: epoch ms."""

    env: str
    bucket: int
    start_ms: int
    edge: ServiceEdge


class SignalWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The signals of one bucket in one window: their union, of each signal the highest revision.

    chunks: each ascending and distinct by (at_ms, signal_id, subject), and at most half as long as the one before, so
    that adding a signal costs the logarithm of their number. dropped: signals beyond the limits of a window. edges: of
    services that called another, ascending and distinct.
    """

    chunks: tuple[tuple[SubjectSignal, ...], ...] = ()
    dropped: int = 0
    edges: tuple[ServiceEdge, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.chunks))
