"""TelemetryGap: a service, a signal type or a whole environment that used to be heard is silent.

Driven by `EnvPresence`; puts out `InsightRevision`. Silence is only ever concluded from somebody else's records: a pane
in which nobody of the environment was heard says nothing until it is followed by one in which somebody was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from operators.frontier import FrontierConfig, TwoFrontiers, next_frontier_ms
from operators.machine import END_OF_INPUT, Step
from state_schemas.codec import Codec
from state_schemas.insights import Evidence, Insight, Status, Window
from state_schemas.outputs import InsightRevision
from state_schemas.partials import EnvPresence, OffsetRange
from state_schemas.presence import GAP_CODEC, GapLearnt, GapPane, GapState, Heard
from udfs.ids import insight_id
from udfs.partials import merge_ranges
from udfs.spike_report import clock, kafka_ranges

EVERYBODY: Final = ""  # service of a gap that concerns a whole signal type or environment


@dataclass(frozen=True, slots=True)
class GapConfig:
    """silence_ms: shortest silence that is a gap; silence_ratio: and so many times the longest one seen before.

    warm_panes: panes a (signal, service) must have been heard in before its silence means anything. common_share: when
    this share of a signal's services is silent at once, it is one gap of the signal, not one for each service.
    """

    frontier: FrontierConfig = field(default_factory=FrontierConfig)
    silence_ms: int = 120_000
    silence_ratio: float = 4.0
    warm_panes: int = 12
    common_share: float = 0.8
    idle_ms: int = 24 * 3_600_000


class TelemetryGap:
    """See the module. One state for each environment; as many entries as pre-merge lets through names."""

    def __init__(self, config: GapConfig) -> None:
        self.config = config

    @property
    def codec(self) -> Codec[GapState]:
        return GAP_CODEC

    def initial(self, key: str) -> GapState:
        return GapState(key)

    def on_event(self, state: GapState, event: EnvPresence, watermark_ms: int) -> Step[GapState, InsightRevision]:
        lengths = self.config.frontier
        behind = 0
        for heard in event.seen:
            if heard.pane_start_ms + lengths.pane_ms + lengths.lateness_ms <= watermark_ms:
                behind += 1
                continue
            pane = state.panes.setdefault(heard.pane_start_ms, GapPane())
            who = f"{heard.signal}|{heard.service}"
            pane.seen[who] = pane.seen.get(who, 0) + heard.records
            pane.ranges = merge_ranges((*pane.ranges, *event.ranges))
            state.last_seen_ms = max(state.last_seen_ms, heard.pane_start_ms)
        return Step(state, (), self._next_wake_ms(state, watermark_ms), (("records_behind_total", behind),))

    def on_wake(self, state: GapState, now_ms: int) -> Step[GapState, InsightRevision]:
        evaluator = _Evaluator(state.env, self.config)
        frontiers = TwoFrontiers(self.config.frontier, evaluator)
        out = frontiers.advance(state.learnt, state.panes, state.announced, now_ms)
        over = not state.panes and now_ms >= state.last_seen_ms + self.config.idle_ms
        if now_ms == END_OF_INPUT or over:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._next_wake_ms(state, now_ms), (("insights_emitted_total", len(out)),))

    def _next_wake_ms(self, state: GapState, now_ms: int) -> int:
        frontier = next_frontier_ms(self.config.frontier, state.panes, now_ms)
        idle_ms = state.last_seen_ms + self.config.idle_ms
        return max(now_ms + 1, idle_ms if frontier is None else min(frontier, idle_ms))


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One pane of presence against who is usually there."""

    env: str
    config: GapConfig

    def __call__(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> Iterator[Insight]:
        if learnt.last_pane_ms and start_ms - learnt.last_pane_ms > self.config.silence_ms:
            yield self._env_hole(learnt, start_ms, pane)
        else:
            yield from self._returned(learnt, start_ms, pane)
            yield from self._silent(learnt, start_ms, pane)
        self._learn(learnt, start_ms, pane)

    def _env_hole(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> Insight:
        """Everybody was silent: known once somebody is heard again. Nobody's own gap counts over it."""
        since_ms = learnt.last_pane_ms + self.config.frontier.pane_ms
        hole_ms = start_ms - since_ms
        for heard in learnt.heard.values():
            heard.last_pane_ms += hole_ms
        return self._insight("", EVERYBODY, since_ms, start_ms, "closed", pane.ranges)

    def _returned(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> Iterator[Insight]:
        for key in sorted(pane.seen.keys() & learnt.heard.keys()):
            heard, (signal, service) = learnt.heard[key], _split(key)
            if heard.gap_since_ms:
                yield self._insight(signal, service, heard.gap_since_ms, start_ms, "closed", pane.ranges)
                heard.gap_since_ms = 0
                heard.last_pane_ms = start_ms  # an announced gap is no measure of usual silence
            if signal in learnt.signal_gaps:
                since_ms = learnt.signal_gaps.pop(signal)
                yield self._insight(signal, EVERYBODY, since_ms, start_ms, "closed", pane.ranges)
                self._forgive(learnt, signal, start_ms)

    def _forgive(self, learnt: GapLearnt, signal: str, start_ms: int) -> None:
        for key, heard in learnt.heard.items():
            if _split(key)[0] == signal:
                heard.last_pane_ms = max(heard.last_pane_ms, start_ms)

    def _silent(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> Iterator[Insight]:
        now_ms = start_ms + self.config.frontier.pane_ms
        for signal in sorted({_split(key)[0] for key in learnt.heard}):
            known = {key: h for key, h in learnt.heard.items() if _split(key)[0] == signal and self._is_warm(h)}
            silent = sorted(key for key, h in known.items() if self._is_silent(h, now_ms) and key not in pane.seen)
            if not silent or signal in learnt.signal_gaps:
                continue
            if len(known) > 1 and len(silent) >= self.config.common_share * len(known):
                since_ms = max(known[key].last_pane_ms for key in silent) + self.config.frontier.pane_ms
                learnt.signal_gaps[signal] = since_ms
                yield self._insight(signal, EVERYBODY, since_ms, now_ms, "open", pane.ranges)
                continue
            for key in silent:
                if not known[key].gap_since_ms:
                    known[key].gap_since_ms = known[key].last_pane_ms + self.config.frontier.pane_ms
                    since_ms = known[key].gap_since_ms
                    yield self._insight(signal, _split(key)[1], since_ms, now_ms, "open", pane.ranges)

    def _is_warm(self, heard: Heard) -> bool:
        return heard.panes >= self.config.warm_panes

    def _is_silent(self, heard: Heard, now_ms: int) -> bool:
        silence_ms = now_ms - heard.last_pane_ms - self.config.frontier.pane_ms
        return silence_ms >= max(self.config.silence_ms, self.config.silence_ratio * heard.silence_ms_max)

    def _learn(self, learnt: GapLearnt, start_ms: int, pane: GapPane) -> None:
        for key in pane.seen:
            heard = learnt.heard.setdefault(key, Heard(start_ms))
            silence_ms = start_ms - heard.last_pane_ms - self.config.frontier.pane_ms
            heard.silence_ms_max = max(heard.silence_ms_max, silence_ms)
            heard.last_pane_ms = start_ms
            heard.panes += 1
        learnt.last_pane_ms = start_ms
        for key in [key for key, h in learnt.heard.items() if start_ms - h.last_pane_ms > self.config.idle_ms]:
            del learnt.heard[key]

    def _insight(
        self, signal: str, service: str, since_ms: int, until_ms: int, status: Status, ranges: tuple[OffsetRange, ...]
    ) -> Insight:
        who = " of ".join(part for part in (signal or "all telemetry", service or self.env) if part)
        verb = "is missing" if status == "open" else f"was missing until {clock(until_ms)}"
        usual = f"{signal or 'telemetry'} of {service or 'this environment'}, last seen before {clock(since_ms)}"
        return Insight(
            insight_id=insight_id("telemetry_gap", self.env, service, signal, since_ms),
            revision=0,
            status=status,
            kind="telemetry_gap",
            env=self.env,
            service=service,
            subject=signal,
            window=Window(start_ms=since_ms, end_ms=until_ms),
            severity="info" if status == "closed" else "warning",
            confidence=0.9,
            title=f"{who} {verb} since {clock(since_ms)}" if status == "open" else f"{who} {verb}",
            reason="heard again" if status == "closed" else "",
            measures={"silence_s": (until_ms - since_ms) / 1000},
            evidence=Evidence(kafka=kafka_ranges(ranges), expected=usual),
        )


def _split(key: str) -> tuple[str, str]:
    signal, _, service = key.partition("|")
    return signal, service
