"""Matching of one rule: signals in the order of event time to partial matches and matches.

A match is a series of signals in order, one for each step, of which each comes within its time of the one before, and
the last within that of the rule of the first. It is found when its last step comes. Of all matches that end with one
signal the *tightest* counts: the one whose first step is the latest. Windows have one time for all that happens in
them, so steps of one time are in order, if a signal fulfils each; one that takes several comes behind the step before.

Why one partial match a signal and step is enough: what can still follow depends on the time of its last step alone, and
of those that end with the same signal, the one that begins last outlives all others. At the time of its last step there
is one for each choice of signals of that time, because none may be used twice. And there is one for each service, or
hosts, of an earlier step to which a later one has a relation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from state_schemas.aggregates.rule_signals import RuleHit, Signal
from state_schemas.state.sequences import FulfilledStep, PartialMatch, RuleProgress, StepSignal
from udfs.rules.plan import SequencePlan, StepPlan
from udfs.rules.recent import RecentSignals
from udfs.rules.relations import Edges

__all__ = ["Match", "advance", "in_order", "signal_of"]

PARTIAL_MAX: Final = 64  # partial matches of a subject that end with one step of a rule
NO_EDGES: Final[Edges] = ()
Hit = tuple[Signal, RuleHit]


class Match(NamedTuple):
    """A match. at_ms: event time of its last step, or of the end of the time in which the last step did not come."""

    match: PartialMatch
    at_ms: int


class Advanced(NamedTuple):
    """The progress after a window, its matches by time, and the partial matches given up: there were too many."""

    progress: RuleProgress
    matches: tuple[Match, ...]
    given_up: int


def _matcher(plan: SequencePlan, edges: Edges, progress: RuleProgress) -> "_Matcher":
    recent = {
        number: RecentSignals(step.wanted, step.bound_of, step.slot_of)
        for number, step in enumerate(plan.steps)
        if step.wanted > 1
    }
    for number, of_step in recent.items():
        for found in progress.recent[number]:
            of_step.add(found)
    return _Matcher(plan, edges, [list(part) for part in progress.partial], recent)


def advance(
    plan: SequencePlan, progress: RuleProgress, hits: Iterable[Hit], until_ms: int, edges: Edges = NO_EDGES
) -> Advanced:
    """Advance a rule by the signals before until_ms that no call before had. edges: that count at their time.

    O(signals x partial matches); of a step that takes several and has a relation also O(signals x services or hosts to
    which earlier steps bind it x those that are related to them). All of them are bounded.
    """
    matcher = _matcher(plan, edges, progress)
    matcher.add_all(hits)
    matcher.forget(until_ms)
    after = RuleProgress(
        partial=tuple(map(tuple, matcher.partial)),
        recent=tuple(matcher.remembered(number) for number in range(len(plan.steps))),
        open_match=progress.open_match,
        used_ms=progress.used_ms,
    )
    return Advanced(after, tuple(sorted(matcher.matches, key=lambda match: match.at_ms)), matcher.given_up)


def in_order(plan: SequencePlan, hits: Iterable[Hit], edges: Edges = NO_EDGES) -> tuple[frozenset[str], ...]:
    """Return by step the ids of the signals that fulfil it in its order; none for a step that must not come."""
    matcher = _matcher(plan, edges, plan.begin)
    matcher.add_all(hits)
    return tuple(map(frozenset, matcher.fulfilling))


@dataclass(slots=True)
class _Matcher:
    plan: SequencePlan
    edges: Edges
    partial: list[list[PartialMatch]]
    # By step, of those that take several signals.
    recent: dict[int, RecentSignals]
    matches: list[Match] = field(default_factory=list)
    partial_given_up: int = 0
    # By step: signals that have fulfilled it in its order.
    fulfilling: list[set[str]] = field(default_factory=list)

    @property
    def given_up(self) -> int:
        return self.partial_given_up + sum(recent.given_up for recent in self.recent.values())

    def remembered(self, number: int) -> tuple[StepSignal, ...]:
        return self.recent[number].signals() if number in self.recent else ()

    def add_all(self, hits: Iterable[Hit]) -> None:
        self.fulfilling = [set() for _ in self.plan.steps]
        for signal, hit in sorted(hits, key=_hit_order):
            self._add(signal, hit)

    def _add(self, signal: Signal, hit: RuleHit) -> None:
        step = self.plan.steps[hit.step]
        if step.absent_ms:
            self._break(hit.step, signal)
            return
        if step.wanted > 1:
            self.recent[hit.step].add(StepSignal(signal, hit.part, hit.value))
        extended = self._extended(hit, signal)
        if extended:
            self.fulfilling[hit.step].add(signal.signal_id)
        if hit.step == len(self.plan.steps) - 1:
            self.matches += (Match(partial, partial.end_ms) for partial in extended[-1:])
            return
        self.partial[hit.step] += extended
        if len(self.partial[hit.step]) > 2 * PARTIAL_MAX:
            self._keep(hit.step, signal.at_ms)

    def _break(self, number: int, signal: Signal) -> None:
        """Drop the partial matches behind which the step came in the time in which it must not.

        The signal that fulfils the step before is not one that comes after it.
        """
        step, at_ms = self.plan.steps[number], signal.at_ms
        self.partial[number - 1] = [
            partial
            for partial in self.partial[number - 1]
            if not partial.end_ms <= at_ms <= partial.end_ms + step.absent_ms
            or partial.last_id == signal.signal_id
            or not self._related(step, signal, _earlier(step, partial))
        ]

    def _related(self, step: StepPlan, signal: Signal, earlier: Sequence[Signal]) -> bool:
        """Return whether a signal has all relations of its step to the earlier signals, one for each relation."""
        related = zip(step.relations, earlier, strict=True)
        return all(relation.holds(signal, before, self.edges) for relation, before in related)

    def _extended(self, hit: RuleHit, signal: Signal) -> list[PartialMatch]:
        """Return the partial matches that end with this signal, the tightest last.

        Beside it those that have other signals of this time, because a step at this time may need one of them, and
        those with other signals for the relations of later steps.
        """
        step, is_last = self.plan.steps[hit.step], hit.step == len(self.plan.steps) - 1
        if hit.step == 0:
            of_first = self._fulfilled(hit, signal, ())
            return [PartialMatch((of_first,))] if of_first else []
        behind: dict[object, FulfilledStep | None] = {}
        best: dict[object, tuple[PartialMatch, FulfilledStep]] = {}
        least_ms = 0  # of the last step only the tightest is wanted
        for before in self.plan.before[hit.step]:
            for partial in reversed(self.partial[before]):
                if partial.first_ms < least_ms:
                    continue
                earlier = _earlier(step, partial)
                bound = _bound_by(step, earlier)
                if bound not in behind:
                    behind[bound] = self._fulfilled(hit, signal, earlier)
                fulfilled = behind[bound]
                if fulfilled and self._follows(fulfilled, partial):
                    place = _signals_at(partial, fulfilled.end_ms), self._bound((*partial.fulfilled, fulfilled))
                    held = best.get(place)
                    if held is None or _tightness(partial) > _tightness(held[0]):
                        best[place] = partial, fulfilled
                    least_ms = max(least_ms, partial.first_ms) if is_last else 0
        ordered = sorted(best.values(), key=lambda found: _tightness(found[0]))
        return [PartialMatch((*partial.fulfilled, fulfilled)) for partial, fulfilled in ordered]

    def _fulfilled(self, hit: RuleHit, signal: Signal, earlier: Sequence[Signal]) -> FulfilledStep | None:
        """Return the step as fulfilled with this signal, by the latest ones that do; None if it is not.

        earlier: by relation of the step, the signal of the earlier step, to which each of them must be related.
        """
        step = self.plan.steps[hit.step]
        if not self._related(step, signal, earlier):
            return None
        if step.wanted == 1:
            return FulfilledStep(hit.step, signal, signal.at_ms)
        recent = self.recent[hit.step]
        latest = recent.latest(_bound_by(step, earlier), lambda found: self._related(step, found.signal, earlier))
        if len(latest) < step.wanted or signal.at_ms - latest[0].signal.at_ms > step.within_ms:
            return None
        return FulfilledStep(hit.step, signal, latest[0].signal.at_ms, len(latest))

    def _bound(self, fulfilled: Sequence[FulfilledStep]) -> tuple[object, ...]:
        """Return what later steps need to know of the signals of these, for their relations."""
        relations = self.plan.relations_after[fulfilled[-1].step]
        if not relations:
            return ()
        return tuple(relation.bound(signal_of(fulfilled, relation.step)) for relation in relations)

    def _end_of(self, partial: PartialMatch) -> tuple[object, ...]:
        return partial.last_id, self._bound(partial.fulfilled)

    def _follows(self, fulfilled: FulfilledStep, partial: PartialMatch) -> bool:
        """Return whether a step can come next. Steps of one signal each can have one time, with a signal each."""
        if fulfilled.end_ms - partial.end_ms > self.plan.steps[fulfilled.step].within_ms:
            return False
        if fulfilled.end_ms - partial.first_ms > self.plan.within_ms:
            return False
        if partial.end_ms < fulfilled.start_ms:
            return True
        is_single = fulfilled.signals == partial.fulfilled[-1].signals == 1
        is_other = fulfilled.signal.signal_id not in _signals_at(partial, fulfilled.end_ms)
        return is_single and is_other and partial.end_ms == fulfilled.end_ms

    def forget(self, until_ms: int) -> None:
        """Conclude what did not come before until_ms, and drop what no signal from then on needs."""
        for number, step in enumerate(self.plan.steps):
            if self.partial[number]:
                self._keep(number, until_ms)
            if number in self.recent:
                self.recent[number].forget(until_ms - step.within_ms)

    def _keep(self, number: int, now_ms: int) -> None:
        """Keep the partial matches of a step that a signal from now_ms on may need, at most PARTIAL_MAX of them.

        All signals before now_ms have come. Of those that wait for a step that must not come the oldest are kept.
        """
        if self.plan.concludes(number):
            self._conclude(number, now_ms)
            kept = sorted(self.partial[number], key=_end)[:PARTIAL_MAX]
        else:
            kept = self._needed(number, now_ms)[:PARTIAL_MAX][::-1]
        self.partial[number] = kept

    def _conclude(self, number: int, now_ms: int) -> None:
        """Take the partial matches for whose last step the time has passed: it is missing."""
        absent_ms, partial = self.plan.absence_ms, self.partial[number]
        over = [found for found in partial if found.end_ms + absent_ms < now_ms]
        tightest = {found.last_id: found for found in sorted(over, key=_tightness)}
        self.matches += (Match(found, found.end_ms + absent_ms) for found in tightest.values())
        self.partial[number] = [found for found in partial if found.end_ms + absent_ms >= now_ms]
        self.partial_given_up += max(0, len(self.partial[number]) - PARTIAL_MAX)

    def _needed(self, number: int, now_ms: int) -> list[PartialMatch]:
        """Return the partial matches of a step that a signal from now_ms on may need, the latest first.

        Before a step of one signal those that end later and begin later outlive the others, of those with the same
        signals for relations.
        """
        reach_ms, is_outlived = self.plan.reach_ms[number], self.plan.outlives[number]
        waiting = [partial for partial in self.partial[number] if partial.end_ms + reach_ms >= now_ms]
        if len(waiting) <= 1:
            return waiting
        kept: list[PartialMatch] = []
        first_ms: dict[object, int] = {}
        # Of those that end and begin alike the tightest first, as for a match: it does not matter where windows end.
        for partial in sorted(waiting, key=lambda found: (_end(found), _tightness(found)), reverse=True):
            bound = self._bound(partial.fulfilled)
            if partial.end_ms >= now_ms:
                kept.append(partial)  # other signals of this time may follow
            elif not is_outlived or partial.first_ms > first_ms.get(bound, -1):
                first_ms[bound] = max(partial.first_ms, first_ms.get(bound, -1))
                kept.append(partial)
        if len({partial.last_id for partial in kept}) == len(kept):
            return self._counted(kept)
        # Of those that end with one signal the tightest is enough from now on.
        tightest = {self._end_of(partial): partial for partial in sorted(kept, key=_tightness)}
        return self._counted(
            [partial for partial in kept if partial.end_ms >= now_ms or tightest[self._end_of(partial)] is partial]
        )

    def _counted(self, kept: list[PartialMatch]) -> list[PartialMatch]:
        """Count the partial matches beyond PARTIAL_MAX, which are given up."""
        self.partial_given_up += max(0, len(kept) - PARTIAL_MAX)
        return kept


def signal_of(fulfilled: Sequence[FulfilledStep], step: int) -> Signal:
    """Return the signal of a step that has come."""
    return next(found.signal for found in fulfilled if found.step == step)


def _hit_order(item: Hit) -> tuple[int, int, str, int]:
    signal, hit = item
    return signal.at_ms, hit.step, signal.signal_id, hit.part


def _end(partial: PartialMatch) -> tuple[int, str]:
    return partial.end_ms, partial.last_id


def _signals_at(partial: PartialMatch, at_ms: int) -> tuple[str, ...]:
    """Return the signals of a partial match that have this time."""
    return tuple(step.signal.signal_id for step in partial.fulfilled if step.end_ms == at_ms)


def _tightness(partial: PartialMatch) -> tuple[object, ...]:
    """Order partial matches: by their first step, then by the later steps from the last one back."""
    return partial.first_ms, tuple((step.end_ms, step.signal.signal_id) for step in reversed(partial.fulfilled))


def _earlier(step: StepPlan, partial: PartialMatch) -> tuple[Signal, ...]:
    """Return by relation of a step the signal of the earlier step."""
    return tuple(signal_of(partial.fulfilled, relation.step) for relation in step.relations)


def _bound_by(step: StepPlan, earlier: Sequence[Signal]) -> tuple[object, ...]:
    """Return all of the earlier signals on which the relations of a step depend."""
    return tuple(relation.bound(signal) for relation, signal in zip(step.relations, earlier, strict=True))
