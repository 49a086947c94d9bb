"""State of sequence rules: partial matches by subject, and what insights are signals of."""

import msgspec

from state_schemas.aggregates.rule_signals import ServiceEdge, Signal, SignalWindow
from state_schemas.codec import packed, zipped
from state_schemas.contracts.insight import Insight
from state_schemas.state.detector import DetectorState


class FulfilledStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A step of a match. signal: the last one that fulfils it. start_ms, signals: of a step that takes several."""

    step: int
    signal: Signal
    start_ms: int
    signals: int = 1

    @property
    def end_ms(self) -> int:
        return self.signal.at_ms


class PartialMatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The steps of a rule that have come so far, at least one."""

    fulfilled: tuple[FulfilledStep, ...]

    @property
    def first_ms(self) -> int:
        return self.fulfilled[0].start_ms

    @property
    def end_ms(self) -> int:
        return self.fulfilled[-1].end_ms

    @property
    def last_id(self) -> str:
        """Return the id of the signal that fulfils the last step."""
        return self.fulfilled[-1].signal.signal_id


class StepSignal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A signal of a step that counts signals, or takes several parts in any order."""

    signal: Signal
    part: int
    value: str


class OpenMatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A match whose insight is open."""

    match: PartialMatch
    # Event time of the match: its last step, or the end of the time in which the last step did not come.
    at_ms: int
    # Its insight, so that it can be closed when its rule is gone.
    insight: Insight
    matches: int = 1
    # Event time of the newest match that counts in it; 0 where that is the first.
    last_ms: int = 0

    @property
    def newest_ms(self) -> int:
        return max(self.at_ms, self.last_ms)


class RuleProgress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Progress of one version of a rule."""

    # By step: partial matches that end with it, ascending by their end.
    partial: tuple[tuple[PartialMatch, ...], ...]
    # By step: signals that it remembers, ascending by time.
    recent: tuple[tuple[StepSignal, ...], ...]
    open_match: OpenMatch | None = None
    # Newest first step that has made a match: it makes no second one. By its service in a rule with relations, else "".
    used_ms: dict[str, int] = {}

    @property
    def is_idle(self) -> bool:
        """Return whether the rule is where it began."""
        return not (any(self.partial) or any(self.recent) or self.open_match)


class SubjectProgress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Progress of the rules of one subject."""

    # By the key of the rule, see `udfs.rules.compiled`.
    rules: dict[str, RuleProgress]
    # Event time at which something is concluded or forgotten without a signal.
    due_ms: int


class SequenceModel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Progress of the subjects of one bucket."""

    # By `by|value`.
    subjects: dict[str, SubjectProgress] = {}
    last_end_ms: int = 0
    # Partial matches and subjects that were given up, because there were too many.
    given_up: int = 0
    # Start of the newest interval in which the service called the other, see `udfs.rules.service_graph`.
    edges: dict[ServiceEdge, int] = {}
    partial_matches: int = 0


SequenceState = DetectorState[SequenceModel, SignalWindow]
SEQUENCE_CODEC = zipped("sequences", SequenceState)


class SentSignal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An insight as it was passed on: the subjects that have it as a signal. until_ms: of its newest revision."""

    subjects: tuple[str, ...]
    until_ms: int


class SignalsState(msgspec.Struct, array_like=True, gc=False):
    """Windows and insights of an environment, as far as rules have them."""

    # Starts of windows with telemetry, epoch ms, of the last hours.
    windows: dict[int, bool] = {}
    # By insight id, those that may have another revision.
    sent: dict[str, SentSignal] = {}
    last_seen_ms: int = 0
    # The window of each edge that was passed on last.
    edges: dict[ServiceEdge, int] = {}


SIGNALS_CODEC = packed("rule-signals", SignalsState)
