"""Early and final evaluation: insights are emitted when a window ends, and corrected until it is final.

A window is evaluated *early* when the watermark passes its end, and is *final* when the watermark passes its end plus
the allowed lateness. The model advances over final windows only; the windows after them are evaluated again from that
model whenever one of them changes. A candidate that differs from the revision emitted last is emitted as the next
revision, at most one of an insight for each advance of event time; an insight without a candidate is retracted. The
first revision is `open` and later ones are `updated`. An insight closes by a final window only, so that it never opens
again. Apart from `open` and `updated`, the last revision of each insight is a pure function of the windows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight, Status, fault_of, to_json
from state_schemas.state.detector import DetectorState, EmittedInsight, Model
from udfs.event_time import LATENESS_MS, WINDOW_MS

M = TypeVar("M", bound=Model)
A = TypeVar("A")

# An id without a final candidate keeps its revision number this long after its last window: it never restarts at 0.
KEPT_MS: Final = 3_600_000

EmitWhen = Literal["early", "final"]
_ONGOING: Final[frozenset[Status]] = frozenset(("open", "updated"))


@dataclass(frozen=True, slots=True)
class EmissionConfig:
    """Settings of windows and of the time at which insights are emitted."""

    # Length of a window.
    window_ms: int = WINDOW_MS
    # Allowed lateness: a window is final this long after its end.
    lateness_ms: int = LATENESS_MS
    # `early` emits when a window ends and corrects later; `final` emits a revision for each final window (`replay`).
    emit_when: EmitWhen = "early"
    # Whether windows that are not final are evaluated. False for what only a complete window shows: a missing line.
    evaluate_early: bool = True

    def final_ms(self, start_ms: int) -> int:
        """Return the event time at which the window that begins at start_ms is final."""
        return start_ms + self.window_ms + self.lateness_ms

    def is_final(self, start_ms: int, now_ms: int) -> bool:
        """Return whether the window that begins at start_ms is final."""
        return self.final_ms(start_ms) <= now_ms

    def is_forgotten(self, judged_until_ms: int, start_ms: int, idle_ms: int) -> bool:
        """Return whether the model is forgotten when the window at start_ms begins.

        The result is that of the idle timer, which may not have fired yet.
        """
        return judged_until_ms > 0 and start_ms >= judged_until_ms + idle_ms

    def forget_ms(self, last_seen_ms: int, idle_ms: int) -> int:
        """Return the event time after which no window can follow that begins within idle_ms of last_seen_ms."""
        return self.final_ms(last_seen_ms + idle_ms)


class _Step(NamedTuple, Generic[M, A]):
    """One window evaluated: its content, the model before and after it, and its candidates."""

    start_ms: int
    window: A
    before: M
    after: M
    candidates: tuple[Insight, ...]


# evaluate(model, window start, window) -> the model after the window, and its candidates (revision 0).
Evaluate = Callable[[M, int, A], tuple[M, Iterable[Insight]]]
# Names in the windows that one subtask remembers; the model of a name after a window takes some 300 bytes.
REMEMBERED_NAMES_MAX: Final = 300_000


class Emitter(Generic[M, A]):
    """Evaluator of windows of many keys.

    Models and windows are values: a caller that changes one passes a new object. Evaluations are remembered for each
    key, so that a window is evaluated once as long as neither it nor the model before it changes. This memory is not
    state: it can be lost at any time and does not change a result. names_in: returns the number of names in a window.
    """

    def __init__(self, config: EmissionConfig, names_in: Callable[[A], int]) -> None:
        self.config = config
        self._names_in = names_in
        self._remembered: dict[str, tuple[int, list[_Step[M, A]]]] = {}
        self._names = 0

    def settle(self, state: DetectorState[M, A], evaluate: Evaluate[M, A], now_ms: int) -> list[Insight]:
        """Advance the model over the windows that are final, and drop them; the state is changed in place.

        Returns the revisions of those windows where each is emitted (`final`), else none: see `correct`.
        """
        out: list[Insight] = []
        final = sorted(start_ms for start_ms in state.windows if self.config.final_ms(start_ms) <= now_ms)
        if not final:
            return out
        known = self._recall(state.key)
        for start_ms in final:
            step = _evaluated(known, evaluate, state.model, start_ms, state.windows.pop(start_ms))
            state.model = step.after
            until_ms = start_ms + self.config.window_ms
            for candidate in step.candidates:
                _settle(state.emitted, candidate, until_ms)
                if self.config.emit_when == "final":
                    out += _send(state.emitted, candidate, until_ms)
        self._remember(state.key, known)
        return out

    def correct(self, state: DetectorState[M, A], evaluate: Evaluate[M, A], now_ms: int) -> list[Insight]:
        """Return the revisions that are due once the model is settled: at most one of each insight."""
        out: list[Insight] = []
        if self.config.emit_when == "early":
            steps = self._tentative(self._recall(state.key), evaluate, state, now_ms)
            self._remember(state.key, steps)
            out = _correct(state.emitted, _tentative_candidates(steps, self.config.window_ms))
        _drop_done(state.emitted, now_ms, self.config.lateness_ms)
        return out

    def _tentative(
        self, known: list[_Step[M, A]], evaluate: Evaluate[M, A], state: DetectorState[M, A], now_ms: int
    ) -> list[_Step[M, A]]:
        """Return the steps of the windows that have ended and are not final, in order."""
        steps: list[_Step[M, A]] = []
        if not self.config.evaluate_early:
            return steps
        model = state.model
        for start_ms in sorted(start_ms for start_ms in state.windows if start_ms + self.config.window_ms <= now_ms):
            steps.append(_evaluated(known, evaluate, model, start_ms, state.windows[start_ms]))
            model = steps[-1].after
        return steps

    def _remember(self, key: str, steps: list[_Step[M, A]]) -> None:
        if not steps:
            return
        names = sum(1 + self._names_in(step.window) for step in steps)
        self._remembered[key] = (names, steps)
        self._names += names
        while self._names > REMEMBERED_NAMES_MAX:
            self._recall(next(iter(self._remembered)))

    def _recall(self, key: str) -> list[_Step[M, A]]:
        """Return the steps that are remembered of a key, and forget them."""
        names, steps = self._remembered.pop(key, (0, []))
        self._names -= names
        return steps

    def conclude(self, emitted: dict[str, EmittedInsight], candidates: Iterable[Insight]) -> tuple[Insight, ...]:
        """Return the last revisions of a key that is about to be forgotten."""
        return tuple(sent for candidate in candidates for sent in _send(emitted, candidate, candidate.window.end_ms))


def _settle(emitted: dict[str, EmittedInsight], candidate: Insight, until_ms: int) -> None:
    entry = emitted.setdefault(candidate.insight_id, EmittedInsight(until_ms))
    entry.final = candidate
    entry.until_ms = max(entry.until_ms, until_ms)


class _Tentative(NamedTuple):
    """The last candidate of an insight in windows that are not final. end_ms: of its window."""

    candidate: Insight
    end_ms: int


def _tentative_candidates(steps: Iterable[_Step[M, A]], window_ms: int) -> dict[str, _Tentative]:
    """Return the last candidate of each insight, by id; a closing one only where there is no other."""
    found: dict[str, _Tentative] = {}
    for step in steps:
        for candidate in step.candidates:
            if candidate.status != "closed" or candidate.insight_id not in found:
                found[candidate.insight_id] = _Tentative(candidate, step.start_ms + window_ms)
    return found


def _correct(emitted: dict[str, EmittedInsight], tentative: dict[str, _Tentative]) -> list[Insight]:
    """Return revisions, by id, where the current candidates differ from the revisions emitted last.

    An insight that only closes in windows that are not final stays as it is: late records may take its end back.
    """
    out: list[Insight] = []
    for insight_id in sorted({*emitted, *tentative}):
        if insight_id in tentative and tentative[insight_id].candidate.status != "closed":
            out += _send(emitted, *tentative[insight_id])
            continue
        entry = emitted.get(insight_id)
        if entry is None:
            continue
        if entry.final is not None:
            out += _send(emitted, entry.final, entry.until_ms)
        elif entry.sent is not None and insight_id not in tentative:
            out += _send(emitted, _retracted(entry.sent), entry.until_ms)
    return out


def _evaluated(known: list[_Step[M, A]], evaluate: Evaluate[M, A], model: M, start_ms: int, window: A) -> _Step[M, A]:
    """Return the step of this window: the first remembered one if nothing has changed, else a new one."""
    if known and known[0].window is window and known[0].before is model:
        return known.pop(0)
    known.clear()
    after, candidates = evaluate(model, start_ms, window)
    return _Step(start_ms, window, model, after, tuple(candidates))


def next_firing_ms(config: EmissionConfig, windows: Iterable[int], now_ms: int) -> int | None:
    """Return when the next of these windows (by start) ends or becomes final; None without windows."""
    if config.emit_when == "final" or not config.evaluate_early:
        return min((config.final_ms(start_ms) for start_ms in windows), default=None)
    ends = (start_ms + config.window_ms for start_ms in windows)
    return min((end if end > now_ms else end + config.lateness_ms for end in ends), default=None)


def checked(revisions: Sequence[Insight]) -> tuple[list[Insight], list[DeadLetter]]:
    """Return the valid insights, and as dead letters those that break their contract: a fault of this job."""
    valid: list[Insight] = []
    rejected: list[DeadLetter] = []
    for insight in revisions:
        if fault := fault_of(insight):
            rejected.append(_dead_letter(insight, fault))
        else:
            valid.append(insight)
    return valid, rejected


def _dead_letter(insight: Insight, fault: str) -> DeadLetter:
    body = to_json(insight)
    return DeadLetter(
        reason="invalid_insight",
        detail=f"{insight.kind} {insight.insight_id}:{insight.revision}: {fault}",
        records=1,
        topic="",
        partition=-1,
        offset=-1,
        timestamp_ms=insight.window.end_ms,
        length_bytes=len(body),
        sha256=sha256(body).hexdigest(),
    )


def _send(emitted: dict[str, EmittedInsight], candidate: Insight, until_ms: int) -> list[Insight]:
    """Return the next revision, or nothing if the candidate equals the revision emitted last."""
    entry = emitted.setdefault(candidate.insight_id, EmittedInsight(until_ms))
    entry.until_ms = max(entry.until_ms, until_ms)
    if candidate.status in _ONGOING:
        if entry.sent is not None and entry.sent.status == "closed":
            return []  # a state of an earlier build, which closed early
        candidate = msgspec.structs.replace(candidate, status=_ongoing_status(entry.sent, candidate))
    if entry.sent == msgspec.structs.replace(candidate, revision=entry.revision):
        return []
    entry.sent = msgspec.structs.replace(candidate, revision=entry.revision + 1)
    return [entry.sent]


def _ongoing_status(sent: Insight | None, candidate: Insight) -> Status:
    """Return `open` for the first revision, and `updated` for a later one that says more than the one before."""
    if sent is None or sent.status not in _ONGOING:
        return "open"
    same = sent == msgspec.structs.replace(candidate, revision=sent.revision, status=sent.status)
    return sent.status if same else "updated"


def _retracted(insight: Insight) -> Insight:
    if insight.status == "retracted":
        return insight
    reason = "late records changed the result: the opening condition no longer holds"
    return msgspec.structs.replace(insight, status="retracted", reason=reason)


def _drop_done(emitted: dict[str, EmittedInsight], now_ms: int, lateness_ms: int) -> None:
    """Forget ids of which no revision can follow."""
    for insight_id, entry in list(emitted.items()):
        waits_ms = KEPT_MS if entry.final is None else lateness_ms
        is_done = entry.final is None or entry.final.status == "closed"
        if is_done and entry.until_ms + waits_ms <= now_ms:
            del emitted[insight_id]
