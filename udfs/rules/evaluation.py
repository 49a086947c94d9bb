"""Evaluation of the rules of one bucket of subjects in one window of event time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from state_schemas.aggregates.rule_signals import RuleHit, Signal, SignalWindow
from state_schemas.contracts.insight import Insight
from state_schemas.state.sequences import OpenMatch, PartialMatch, RuleProgress, SequenceModel, SubjectProgress
from udfs.detect.lifecycle import OPEN, Course
from udfs.detect.service_window import ServiceWindow
from udfs.rules.compiled import CompiledRule, RuleIndex
from udfs.rules.matching import Match, advance
from udfs.rules.relations import Edges
from udfs.rules.report import Reported, SequenceKey, report
from udfs.rules.service_graph import after_window
from udfs.rules.windows import signals_of

__all__ = ["conclude", "evaluate_signals"]

OVER: Final = Course("closed", "no further match for suppress_ms")
RENEWED: Final = Course("closed", "it goes on: a new insight begins")
# An insight stands for matches of so long at most: what goes on for a day is three insights, so that nobody forgets it.
GOES_ON_MS: Final = 8 * 3_600_000
EXPIRED: Final = Course("closed", "no telemetry of the environment for so long")
UPDATED: Final = Course("updated")
REMOVED: Final = Course("closed", "its rule was removed or changed")
TOO_MANY: Final = Course("closed", "given up: too many subjects have partial matches")
SUBJECTS_MAX: Final = 2_000  # of a bucket, with partial matches: traces are many
Hit = tuple[Signal, RuleHit]


def evaluate_signals(
    model: SequenceModel, window: ServiceWindow[SignalWindow], index: RuleIndex
) -> tuple[SequenceModel, list[Insight]]:
    """Return the model after the window, and its candidates.

    O(subjects + signals x partial matches of their rules). The partial matches of a rule that is not in the index end.
    """
    hits = _by_subject(window.table)
    edges = after_window(model.edges, window.table.edges, window.start_ms)
    subjects, insights = dict(model.subjects), list[Insight]()
    given_up, partial = model.given_up + window.table.dropped, model.partial_matches
    for subject in sorted({*hits, *(name for name, held in subjects.items() if held.due_ms < window.end_ms)}):
        before = subjects.pop(subject, None)
        key = SequenceKey.of(window.key.env, subject)
        evaluation = _Evaluation(index, key, window.start_ms, window.end_ms, edges)
        after = evaluation.advanced(before.rules if before else {}, hits.get(subject, {}))
        insights += evaluation.insights.values()
        partial += _partial(after) - _partial(before.rules if before else {})
        given_up += evaluation.given_up
        if after:
            subjects[subject] = SubjectProgress(after, evaluation.due_ms(after))
    for subject in _beyond(subjects):
        rules = subjects.pop(subject).rules
        insights += _closed(rules, TOO_MANY)
        given_up += 1
        partial -= _partial(rules)
    return SequenceModel(subjects, window.end_ms, given_up, edges, partial), insights


def _partial(rules: Mapping[str, RuleProgress]) -> int:
    return sum(len(found) for progress in rules.values() for found in progress.partial)


def conclude(model: SequenceModel) -> list[Insight]:
    """Return the closing revisions of the open matches of an environment that is forgotten."""
    return [insight for _, held in sorted(model.subjects.items()) for insight in _closed(held.rules, EXPIRED)]


def _closed(rules: Mapping[str, RuleProgress], course: Course) -> list[Insight]:
    """Return the closing revisions of the open matches of a subject."""
    open_matches = (progress.open_match for _, progress in sorted(rules.items()))
    return [_ended(held, course) for held in open_matches if held]


def _ended(held: OpenMatch, course: Course) -> Insight:
    return replace(held.insight, status=course.status, reason=course.reason)


def _beyond(subjects: Mapping[str, SubjectProgress]) -> list[str]:
    """Return the subjects beyond SUBJECTS_MAX: those that would be over first."""
    count = len(subjects) - SUBJECTS_MAX
    return sorted(subjects, key=lambda name: (subjects[name].due_ms, name))[:count] if count > 0 else []


def _by_subject(table: SignalWindow) -> dict[str, dict[str, list[Hit]]]:
    found: dict[str, dict[str, list[Hit]]] = {}
    for signal in signals_of(table):
        rules = found.setdefault(signal.subject, {})
        for hit in signal.hits:
            rules.setdefault(hit.rule, []).append((signal.signal, hit))
    return found


@dataclass(slots=True)
class _Evaluation:
    """Evaluation of one subject in a window of event time."""

    index: RuleIndex
    key: SequenceKey
    start_ms: int
    until_ms: int
    # Those that count in the window.
    edges: Edges
    # Of each match the last candidate that is open, and the one that closes it: only the first is emitted early.
    insights: dict[tuple[str, bool], Insight] = field(default_factory=dict)
    given_up: int = 0

    def advanced(self, rules: Mapping[str, RuleProgress], hits: Mapping[str, list[Hit]]) -> dict[str, RuleProgress]:
        """Return the progress of each rule that is not where it began.

        A rule that is removed within the window has the matches that were complete before.
        """
        after = {}
        for key in sorted({*rules, *hits}):
            compiled = self.index.rules.get(key)
            before = rules.get(key)
            if compiled is None or compiled.removed_ms <= self.start_ms:
                self._remove(key, before)
                continue
            until_ms = min(self.until_ms, compiled.removed_ms)
            counted = [hit for hit in hits.get(key, ()) if hit[0].at_ms < until_ms]
            advanced = advance(compiled.plan, before or compiled.plan.begin, counted, until_ms, self.edges)
            self.given_up += advanced.given_up
            progress = self._reported(compiled, advanced.progress, advanced.matches)
            if until_ms < self.until_ms:
                self._remove(key, progress)
            elif not progress.is_idle:
                after[key] = progress
        return after

    def _remove(self, key: str, progress: RuleProgress | None) -> None:
        """End the progress of a rule that is not there any more."""
        if progress is not None:
            self._say(_closed({key: progress}, REMOVED))
            self.given_up += sum(map(len, progress.partial))

    def _reported(self, compiled: CompiledRule, progress: RuleProgress, matches: Sequence[Match]) -> RuleProgress:
        """Report the matches: one insight for those of which each comes within suppress_ms of the one before.

        A first step makes one match, so that no id comes twice: partial matches that begin no later are dropped.
        """
        if not (matches or progress.open_match or progress.used_ms):
            return progress
        held, suppress_ms, used_ms = progress.open_match, compiled.rule.suppress_ms, dict(progress.used_ms)

        def is_used(match: PartialMatch) -> bool:
            return match.first_ms <= used_ms.get(compiled.plan.story(match), -1)

        for match in matches:
            if is_used(match.match):
                continue
            used_ms[compiled.plan.story(match.match)] = match.match.first_ms
            is_over = held is None or match.at_ms > held.newest_ms + suppress_ms
            if held and not is_over and match.at_ms <= held.at_ms + max(suppress_ms, GOES_ON_MS):
                held = self._said(compiled, Reported(held.match, held.at_ms, held.matches + 1, match.at_ms), UPDATED)
                continue
            if held:
                self._say([_ended(held, OVER if is_over else RENEWED)])
            held = self._said(compiled, Reported(match.match, match.at_ms, 1, match.at_ms), OPEN)
        if held and held.newest_ms + suppress_ms < self.until_ms:
            self._say([_ended(held, OVER)])
            held = None
        partial = tuple(tuple(found for found in step if not is_used(found)) for step in progress.partial)
        kept_ms = self.until_ms - compiled.rule.within  # a step that counts can begin so long ago
        used_ms = {story: first_ms for story, first_ms in used_ms.items() if first_ms >= kept_ms}
        return replace(progress, partial=partial, open_match=held, used_ms=used_ms)

    def _said(self, compiled: CompiledRule, found: Reported, course: Course) -> OpenMatch:
        """Report a match with its first, second, fourth, eighth ... match, and return it as open."""
        insight = report(compiled, self.key, found, course)
        if not found.matches & (found.matches - 1):
            self._say([insight])
        return OpenMatch(found.match, found.at_ms, insight, found.matches, found.last_ms)

    def _say(self, insights: Iterable[Insight]) -> None:
        self.insights |= {(insight.insight_id, insight.status == "closed"): insight for insight in insights}

    def due_ms(self, rules: Mapping[str, RuleProgress]) -> int:
        """Return when something is concluded next without a signal, or, if nothing is, when all is forgotten."""
        concluded: list[int] = []
        forgotten: list[int] = []
        for key, progress in rules.items():
            compiled = self.index.rules[key]
            if progress.open_match:
                concluded.append(progress.open_match.newest_ms + compiled.rule.suppress_ms)
            for number, partial in enumerate(progress.partial):
                if compiled.plan.concludes(number):
                    concluded += (found.end_ms + compiled.plan.absence_ms for found in partial)
                forgotten += (found.end_ms + compiled.plan.reach_ms[number] for found in partial[-1:])
            for step, recent in zip(compiled.plan.steps, progress.recent, strict=True):
                forgotten += (found.signal.at_ms + step.within_ms for found in recent[-1:])
        return min(concluded) if concluded else max(forgotten)
