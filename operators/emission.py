"""Two frontiers: insights go out when a pane is reported, and are what they are when it is final.

A pane is *reported* when event time passes its end and *final* when it passes its end + lateness. What is learnt
advances over final panes only; the panes in between are evaluated anew from the last final point whenever something
moves. What then differs from what went out is sent as the next revision, and what is no longer said at all
is retracted. The last revision of each insight is so a pure function of the panes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from operators.machine import END_OF_INPUT
from state_schemas.contracts.insight import Insight, InsightRevision, from_json, to_json
from state_schemas.state.emitted import Announced

L = TypeVar("L")
P = TypeVar("P")

# An unsettled id keeps its revision number this long after its last pane, so that it can never start at 0 again.
KEPT_MS: Final = 3_600_000

Announce = Literal["reported", "final"]


@dataclass(frozen=True, slots=True)
class FrontierConfig:
    """announce: `reported` sends early and corrects; `final` waits for the lateness and never corrects (`replay`)."""

    pane_ms: int = 10_000
    lateness_ms: int = 120_000
    announce: Announce = "reported"

    def final_ms(self, start_ms: int) -> int:
        """When the pane that begins then is final."""
        return start_ms + self.pane_ms + self.lateness_ms

    def is_final(self, start_ms: int, watermark_ms: int, judged_until_ms: int) -> bool:
        """Whether that pane is. What is judged stays final, though after a restore the watermark starts anew."""
        return self.final_ms(start_ms) <= watermark_ms or start_ms < judged_until_ms

    def is_forgotten(self, judged_until_ms: int, start_ms: int, idle_ms: int) -> bool:
        """Whether what was learnt is, when a pane begins: as if the idle wake had come, which it may not have yet."""
        return judged_until_ms > 0 and start_ms >= judged_until_ms + idle_ms

    def forget_ms(self, last_seen_ms: int, idle_ms: int) -> int:
        """When no pane can come any more that begins within idle_ms of last_seen_ms, however event time moves."""
        return self.final_ms(last_seen_ms + idle_ms)


class _Step(NamedTuple, Generic[L, P]):
    """One pane evaluated: what it was, what was known before and after, the drafts it announces."""

    start_ms: int
    pane: P
    before: L
    after: L
    drafts: tuple[Insight, ...]


# evaluate(learnt, pane start, pane) -> what is known after it, and the drafts (revision 0) that it announces.
Evaluate = Callable[[L, int, P], tuple[L, Iterable[Insight]]]
# Names in the panes that one subtask remembers; what is known of a name after a pane takes some 300 bytes.
REMEMBERED_NAMES_MAX: Final = 300_000


class TwoFrontiers(Generic[L, P]):
    """Evaluates panes of many keys. `learnt` and panes are values: who changes one puts another object in its place.

    What was evaluated is remembered for each key, so that a pane is evaluated once as long as neither it nor what was
    known before it changes. That memory is no state: it can be lost at any time and changes no result. names_in: how
    many names a pane speaks of.
    """

    def __init__(self, config: FrontierConfig, names_in: Callable[[P], int]) -> None:
        self.config = config
        self._names_in = names_in
        self._remembered: dict[str, tuple[int, list[_Step[L, P]]]] = {}
        self._names = 0

    def advance(
        self,
        key: str,
        evaluate: Evaluate[L, P],
        learnt: L,
        panes: dict[int, P],
        announced: dict[str, Announced],
        now_ms: int,
    ) -> tuple[L, tuple[InsightRevision, ...]]:
        """What is known after the final panes, which are taken out of `panes`; `announced` is changed in place."""
        out: list[InsightRevision] = []
        known = self._recall(key)
        for start_ms in self._final(panes, now_ms):
            step = _evaluated(known, evaluate, learnt, start_ms, panes.pop(start_ms))
            learnt = step.after
            until_ms = start_ms + self.config.pane_ms
            for draft in step.drafts:
                self._settle(announced, draft, until_ms)
                if self.config.announce == "final":
                    out += _send(announced, draft, until_ms)
        if self.config.announce == "reported":
            steps = self._tentative(known, evaluate, learnt, panes, now_ms)
            self._remember(key, steps)
            ends = ((draft, step.start_ms + self.config.pane_ms) for step in steps for draft in step.drafts)
            out += self._correct(announced, {draft.insight_id: (draft, end_ms) for draft, end_ms in ends})
        _drop_done(announced, now_ms, self.config.lateness_ms)
        return learnt, tuple(out)

    def _tentative(
        self, known: list[_Step[L, P]], evaluate: Evaluate[L, P], learnt: L, panes: dict[int, P], now_ms: int
    ) -> list[_Step[L, P]]:
        """The reported panes, evaluated from the last final point on."""
        steps: list[_Step[L, P]] = []
        for start_ms in sorted(start_ms for start_ms in panes if start_ms + self.config.pane_ms <= now_ms):
            step = _evaluated(known, evaluate, steps[-1].after if steps else learnt, start_ms, panes[start_ms])
            steps.append(step)
        return steps

    def _remember(self, key: str, steps: list[_Step[L, P]]) -> None:
        if not steps:
            return
        names = sum(1 + self._names_in(step.pane) for step in steps)
        self._remembered[key] = (names, steps)
        self._names += names
        while self._names > REMEMBERED_NAMES_MAX:
            self._recall(next(iter(self._remembered)))

    def _recall(self, key: str) -> list[_Step[L, P]]:
        """What is remembered of a key; now it no longer is."""
        names, steps = self._remembered.pop(key, (0, []))
        self._names -= names
        return steps

    def conclude(self, announced: dict[str, Announced], drafts: Iterable[Insight]) -> tuple[InsightRevision, ...]:
        """Last revisions of a key that is about to be forgotten."""
        return tuple(sent for draft in drafts for sent in _send(announced, draft, draft.window.end_ms))

    def _final(self, panes: dict[int, P], now_ms: int) -> list[int]:
        if now_ms == END_OF_INPUT:
            return sorted(panes)
        return sorted(start_ms for start_ms in panes if self.config.final_ms(start_ms) <= now_ms)

    def _settle(self, announced: dict[str, Announced], draft: Insight, until_ms: int) -> None:
        entry = announced.get(draft.insight_id)
        if entry is None:
            entry = announced[draft.insight_id] = Announced(-1, b"", until_ms)
        entry.settled = to_json(draft)
        entry.closed = draft.status == "closed"
        entry.until_ms = max(entry.until_ms, until_ms)

    def _correct(
        self, announced: dict[str, Announced], tentative: dict[str, tuple[Insight, int]]
    ) -> list[InsightRevision]:
        """Revisions that bring the world from what was sent to what holds now, in id order."""
        out: list[InsightRevision] = []
        for insight_id in sorted({*announced, *tentative}):
            if insight_id in tentative:
                out += _send(announced, *tentative[insight_id])
                continue
            entry = announced[insight_id]
            if entry.settled:
                out += _send(announced, from_json(entry.settled), entry.until_ms)
            elif entry.sent:
                out += _send(announced, _retracted(from_json(entry.sent)), entry.until_ms)
        return out


def _evaluated(known: list[_Step[L, P]], evaluate: Evaluate[L, P], learnt: L, start_ms: int, pane: P) -> _Step[L, P]:
    """The step of this pane: the first one known where it is the same, else evaluated."""
    if known and known[0].pane is pane and known[0].before is learnt:
        return known.pop(0)
    known.clear()
    after, drafts = evaluate(learnt, start_ms, pane)
    return _Step(start_ms, pane, learnt, after, tuple(drafts))


def next_frontier_ms(config: FrontierConfig, panes: Iterable[int], now_ms: int) -> int | None:
    """When the next of these panes (by start) becomes reported or final; None where there is none."""
    ends = (start_ms + config.pane_ms for start_ms in panes)
    return min((end if end > now_ms else end + config.lateness_ms for end in ends), default=None)


def _send(announced: dict[str, Announced], draft: Insight, until_ms: int) -> list[InsightRevision]:
    """The next revision, or nothing where the draft says what was said last."""
    entry = announced.setdefault(draft.insight_id, Announced(-1, b"", until_ms))
    entry.until_ms = max(entry.until_ms, until_ms)
    if entry.sent == to_json(draft.model_copy(update={"revision": entry.revision})):
        return []
    entry.revision += 1
    entry.sent = to_json(draft.model_copy(update={"revision": entry.revision}))
    return [InsightRevision(draft.env, draft.service, draft.insight_id, entry.revision, entry.sent)]


def _retracted(insight: Insight) -> Insight:
    if insight.status == "retracted":
        return insight
    reason = "late data changed the picture: the opening condition no longer holds"
    return insight.model_copy(update={"status": "retracted", "reason": reason})


def _drop_done(announced: dict[str, Announced], now_ms: int, lateness_ms: int) -> None:
    """Forget ids that nothing can announce again."""
    for insight_id, entry in list(announced.items()):
        waits_ms = lateness_ms if entry.settled else KEPT_MS
        if (entry.closed or not entry.settled) and entry.until_ms + waits_ms <= now_ms:
            del announced[insight_id]
