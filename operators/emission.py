"""Two frontiers: insights go out when a window is reported, and are what they are when it is final.

A window is *reported* when event time passes its end and *final* when it passes its end + lateness. What is learned
advances over final windows only; the windows in between are evaluated anew from the last final point whenever something
moves. What then differs from what went out is sent as the next revision, and what is no longer said at all
is retracted. The last revision of each insight is so a pure function of the windows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from operators.machine import END_OF_INPUT
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Insight, fault_of, to_json
from state_schemas.state.detector import EmittedInsight
from udfs.event_time import LATENESS_MS, WINDOW_MS

L = TypeVar("L")
P = TypeVar("P")

# An unsettled id keeps its revision number this long after its last window, so that it can never start at 0 again.
KEPT_MS: Final = 3_600_000

EmitWhen = Literal["early", "final"]


@dataclass(frozen=True, slots=True)
class EmissionConfig:
    """emit_when: `early` sends early and corrects; `final` waits for the lateness and never corrects (`replay`)."""

    window_ms: int = WINDOW_MS
    lateness_ms: int = LATENESS_MS
    emit_when: EmitWhen = "early"

    def final_ms(self, start_ms: int) -> int:
        """When the window that begins then is final."""
        return start_ms + self.window_ms + self.lateness_ms

    def is_final(self, start_ms: int, watermark_ms: int, judged_until_ms: int) -> bool:
        """Whether that window is. What is judged stays final, though after a restore the watermark starts anew."""
        return self.final_ms(start_ms) <= watermark_ms or start_ms < judged_until_ms

    def is_forgotten(self, judged_until_ms: int, start_ms: int, idle_ms: int) -> bool:
        """Whether what was learned is, when a window begins: as if the idle timer had come, which it may not have
        yet.
        """
        return judged_until_ms > 0 and start_ms >= judged_until_ms + idle_ms

    def forget_ms(self, last_seen_ms: int, idle_ms: int) -> int:
        """When no window can come any more that begins within idle_ms of last_seen_ms, however event time moves."""
        return self.final_ms(last_seen_ms + idle_ms)


class _Step(NamedTuple, Generic[L, P]):
    """One window evaluated: what it was, what was known before and after, the drafts it announces."""

    start_ms: int
    window: P
    before: L
    after: L
    candidates: tuple[Insight, ...]


# evaluate(learned, window start, window) -> what is known after it, and the drafts (revision 0) that it announces.
Evaluate = Callable[[L, int, P], tuple[L, Iterable[Insight]]]
# Names in the windows that one subtask remembers; what is known of a name after a window takes some 300 bytes.
REMEMBERED_NAMES_MAX: Final = 300_000


class Emitter(Generic[L, P]):
    """Evaluates windows of many keys. `model` and windows are values: who changes one puts another object in its place.

    What was evaluated is remembered for each key, so that a window is evaluated once as long as neither it nor what was
    known before it changes. That memory is no state: it can be lost at any time and changes no result. names_in: how
    many names a window speaks of.
    """

    def __init__(self, config: EmissionConfig, names_in: Callable[[P], int]) -> None:
        self.config = config
        self._names_in = names_in
        self._remembered: dict[str, tuple[int, list[_Step[L, P]]]] = {}
        self._names = 0

    def advance(
        self,
        key: str,
        evaluate: Evaluate[L, P],
        model: L,
        windows: dict[int, P],
        emitted: dict[str, EmittedInsight],
        now_ms: int,
    ) -> tuple[L, tuple[Insight, ...]]:
        """What is known after the final windows, which are taken out of `windows`; `emitted` is changed in place."""
        out: list[Insight] = []
        known = self._recall(key)
        for start_ms in self._final(windows, now_ms):
            step = _evaluated(known, evaluate, model, start_ms, windows.pop(start_ms))
            model = step.after
            until_ms = start_ms + self.config.window_ms
            for candidate in step.candidates:
                self._settle(emitted, candidate, until_ms)
                if self.config.emit_when == "final":
                    out += _send(emitted, candidate, until_ms)
        if self.config.emit_when == "early":
            steps = self._tentative(known, evaluate, model, windows, now_ms)
            self._remember(key, steps)
            ends = (
                (candidate, step.start_ms + self.config.window_ms) for step in steps for candidate in step.candidates
            )
            out += self._correct(emitted, {candidate.insight_id: (candidate, end_ms) for candidate, end_ms in ends})
        _drop_done(emitted, now_ms, self.config.lateness_ms)
        return model, tuple(out)

    def _tentative(
        self, known: list[_Step[L, P]], evaluate: Evaluate[L, P], model: L, windows: dict[int, P], now_ms: int
    ) -> list[_Step[L, P]]:
        """The reported windows, evaluated from the last final point on."""
        steps: list[_Step[L, P]] = []
        for start_ms in sorted(start_ms for start_ms in windows if start_ms + self.config.window_ms <= now_ms):
            step = _evaluated(known, evaluate, steps[-1].after if steps else model, start_ms, windows[start_ms])
            steps.append(step)
        return steps

    def _remember(self, key: str, steps: list[_Step[L, P]]) -> None:
        if not steps:
            return
        names = sum(1 + self._names_in(step.window) for step in steps)
        self._remembered[key] = (names, steps)
        self._names += names
        while self._names > REMEMBERED_NAMES_MAX:
            self._recall(next(iter(self._remembered)))

    def _recall(self, key: str) -> list[_Step[L, P]]:
        """What is remembered of a key; now it no longer is."""
        names, steps = self._remembered.pop(key, (0, []))
        self._names -= names
        return steps

    def conclude(self, emitted: dict[str, EmittedInsight], candidates: Iterable[Insight]) -> tuple[Insight, ...]:
        """Last revisions of a key that is about to be forgotten."""
        return tuple(sent for candidate in candidates for sent in _send(emitted, candidate, candidate.window.end_ms))

    def _final(self, windows: dict[int, P], now_ms: int) -> list[int]:
        if now_ms == END_OF_INPUT:
            return sorted(windows)
        return sorted(start_ms for start_ms in windows if self.config.final_ms(start_ms) <= now_ms)

    def _settle(self, emitted: dict[str, EmittedInsight], candidate: Insight, until_ms: int) -> None:
        entry = emitted.get(candidate.insight_id)
        if entry is None:
            entry = emitted[candidate.insight_id] = EmittedInsight(until_ms)
        entry.final = candidate
        entry.until_ms = max(entry.until_ms, until_ms)

    def _correct(self, emitted: dict[str, EmittedInsight], tentative: dict[str, tuple[Insight, int]]) -> list[Insight]:
        """Revisions that bring the world from what was sent to what holds now, in id order."""
        out: list[Insight] = []
        for insight_id in sorted({*emitted, *tentative}):
            if insight_id in tentative:
                out += _send(emitted, *tentative[insight_id])
                continue
            entry = emitted[insight_id]
            if entry.final is not None:
                out += _send(emitted, entry.final, entry.until_ms)
            elif entry.sent is not None:
                out += _send(emitted, _retracted(entry.sent), entry.until_ms)
        return out


def _evaluated(known: list[_Step[L, P]], evaluate: Evaluate[L, P], model: L, start_ms: int, window: P) -> _Step[L, P]:
    """The step of this window: the first one known where it is the same, else evaluated."""
    if known and known[0].window is window and known[0].before is model:
        return known.pop(0)
    known.clear()
    after, candidates = evaluate(model, start_ms, window)
    return _Step(start_ms, window, model, after, tuple(candidates))


def next_firing_ms(config: EmissionConfig, windows: Iterable[int], now_ms: int) -> int | None:
    """When the next of these windows (by start) becomes reported or final; None where there is none."""
    if config.emit_when == "final":
        return min((config.final_ms(start_ms) for start_ms in windows), default=None)
    ends = (start_ms + config.window_ms for start_ms in windows)
    return min((end if end > now_ms else end + config.lateness_ms for end in ends), default=None)


def checked(revisions: Sequence[Insight]) -> tuple[list[Insight], list[DeadLetter]]:
    """Split off, as dead letters, the insights that break their contract: a fault of this job, not of its input."""
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
    """The next revision, or nothing where the draft says what was said last."""
    entry = emitted.setdefault(candidate.insight_id, EmittedInsight(until_ms))
    entry.until_ms = max(entry.until_ms, until_ms)
    if entry.sent == msgspec.structs.replace(candidate, revision=entry.revision):
        return []
    entry.sent = msgspec.structs.replace(candidate, revision=entry.revision + 1)
    return [entry.sent]


def _retracted(insight: Insight) -> Insight:
    if insight.status == "retracted":
        return insight
    reason = "late data changed the picture: the opening condition no longer holds"
    return msgspec.structs.replace(insight, status="retracted", reason=reason)


def _drop_done(emitted: dict[str, EmittedInsight], now_ms: int, lateness_ms: int) -> None:
    """Forget ids that nothing can announce again."""
    for insight_id, entry in list(emitted.items()):
        waits_ms = KEPT_MS if entry.final is None else lateness_ms
        is_done = entry.final is None or entry.final.status == "closed"
        if is_done and entry.until_ms + waits_ms <= now_ms:
            del emitted[insight_id]
