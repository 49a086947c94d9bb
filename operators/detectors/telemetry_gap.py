"""TelemetryGap: a service, a signal type or a whole environment that used to be heard is silent.

Driven by `EnvActivity`; puts out `InsightRevision`. Silence is only ever concluded from somebody else's records: a
window in which nobody of the environment was heard says nothing until it is followed by one in which somebody was.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from operators.emission import EmissionConfig, Emitter, next_firing_ms
from operators.machine import END_OF_INPUT, Step
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.codec import Codec
from state_schemas.contracts.insight import Evidence, Insight, InsightRevision, Status, Window
from state_schemas.state.telemetry_gap import GAP_CODEC, ActivityHistory, ActivityModel, GapState, WindowActivity
from state_schemas.telemetry.message import OffsetRange
from udfs.activity import merge_ranges
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, kafka_ranges, title_of

ALL_SERVICES: Final = ""  # service of a gap that concerns a whole signal type or environment


@dataclass(frozen=True, slots=True)
class GapConfig:
    """When silence is a gap.

    Of an environment or a signal type: longer than silence_ms and than silence_ratio times the longest silence so far,
    once it was heard in signal_warm_windows. Of a service, once it was heard in service_warm_windows: counted in
    *ticks*, windows in which somebody else of its signal type was heard; at least silent_ticks_min, twice the longest
    silence so far, and so many that a service heard in its usual share p of ticks would be silent with a probability
    under
    exp(-silent_nats) ~ exp(-p * ticks).
    """

    emission: EmissionConfig = field(default_factory=EmissionConfig)
    silence_ms: int = 120_000
    silence_ratio: float = 6.0
    signal_warm_windows: int = 12
    service_warm_windows: int = 30
    silent_ticks_min: int = 12
    silent_nats: float = 14.0
    idle_ms: int = 24 * 3_600_000


class TelemetryGap:
    """See the module. One state for each environment; as many entries as pre-merge lets through names."""

    def __init__(self, config: GapConfig) -> None:
        self.config = config
        self._emitter: Emitter[ActivityModel, WindowActivity] = Emitter(
            config.emission, lambda window: len(window.seen)
        )

    @property
    def codec(self) -> Codec[GapState]:
        return GAP_CODEC

    def initial(self, key: str) -> GapState:
        return GapState(key)

    def on_event(self, state: GapState, event: EnvActivity, watermark_ms: int) -> Step[GapState, InsightRevision]:
        emission, behind = self.config.emission, 0
        for active in event.windows:
            judged_until_ms = state.model.env.last_ms + emission.window_ms if state.model.env else 0
            if emission.is_final(active.start_ms, watermark_ms, judged_until_ms):
                behind += sum(history.records for history in active.seen)
                continue
            before = state.windows.get(active.start_ms, WindowActivity())
            seen = dict(before.seen)
            for history in active.seen:
                who = f"{history.signal}|{history.service}"
                seen[who] = seen.get(who, 0) + history.records
            state.windows[active.start_ms] = WindowActivity(seen, merge_ranges((*before.ranges, *active.ranges)))
            state.last_seen_ms = max(state.last_seen_ms, active.start_ms)
        return Step(state, (), self._next_timer_ms(state, watermark_ms), (("records_behind_total", behind),))

    def on_timer(self, state: GapState, now_ms: int) -> Step[GapState, InsightRevision]:
        evaluator = _Evaluator(state.env, self.config)
        state.model, out = self._emitter.advance(
            state.env, evaluator, state.model, state.windows, state.emitted, now_ms
        )
        over = not state.windows and now_ms >= self._forget_ms(state)
        if now_ms == END_OF_INPUT or over:
            return Step(None, out, None, (("states_forgotten_total", 1),))
        return Step(state, out, self._next_timer_ms(state, now_ms), (("insights_emitted_total", len(out)),))

    def _next_timer_ms(self, state: GapState, now_ms: int) -> int:
        emission = next_firing_ms(self.config.emission, state.windows, now_ms)
        forget_ms = self._forget_ms(state)
        return max(now_ms + 1, forget_ms if emission is None else min(emission, forget_ms))

    def _forget_ms(self, state: GapState) -> int:
        return self.config.emission.forget_ms(state.last_seen_ms, self.config.idle_ms)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """One window of presence against who is usually there."""

    env: str
    config: GapConfig

    def __call__(
        self, model: ActivityModel, start_ms: int, window: WindowActivity
    ) -> tuple[ActivityModel, list[Insight]]:
        after = deepcopy(model)
        return after, list(self._insights(after, start_ms, window))

    def _insights(self, model: ActivityModel, start_ms: int, window: WindowActivity) -> Iterator[Insight]:
        if model.env is not None and self._is_long(model.env, start_ms):
            yield self._insight("", ALL_SERVICES, self._since(model.env), start_ms, "closed", window.ranges)
            for history in model.signals.values():
                history.last_ms = max(
                    history.last_ms, start_ms - self.config.emission.window_ms
                )  # that was everybody's gap
            model.env.last_ms = start_ms - self.config.emission.window_ms
        present = {_split(key)[0] for key in window.seen}
        yield from self._signals(model, start_ms, window, present)
        for signal in present:
            model.ticks[signal] = model.ticks.get(signal, 0) + 1
        yield from self._services(model, start_ms, window, present)
        self._learn(model, start_ms, window, present)
        yield from self._forgotten(model, start_ms, window)

    def _signals(
        self, model: ActivityModel, start_ms: int, window: WindowActivity, present: set[str]
    ) -> Iterator[Insight]:
        for signal, history in sorted(model.signals.items()):
            if signal in present and history.gap_since_ms:
                yield self._insight(signal, ALL_SERVICES, history.gap_since_ms, start_ms, "closed", window.ranges)
                history.gap_since_ms = 0
                history.last_ms = start_ms  # an announced gap is no measure of usual silence
            elif signal not in present and not history.gap_since_ms and self._is_long(history, start_ms):
                history.gap_since_ms = self._since(history)
                until_ms = start_ms + self.config.emission.window_ms
                yield self._insight(signal, ALL_SERVICES, history.gap_since_ms, until_ms, "open", window.ranges)

    def _services(
        self, model: ActivityModel, start_ms: int, window: WindowActivity, present: set[str]
    ) -> Iterator[Insight]:
        for key, history in sorted(model.services.items()):
            signal, service = _split(key)
            tick = model.ticks.get(signal, 0)
            if key in window.seen and history.gap_since_ms:
                yield self._insight(signal, service, history.gap_since_ms, start_ms, "closed", window.ranges)
                history.gap_since_ms = 0
                history.last_tick = tick
            elif (
                signal in present
                and key not in window.seen
                and not history.gap_since_ms
                and self._is_missing(history, tick)
            ):
                history.gap_since_ms = self._since(history)
                until_ms = start_ms + self.config.emission.window_ms
                yield self._insight(signal, service, history.gap_since_ms, until_ms, "open", window.ranges)

    def _is_long(self, history: ActivityHistory, now_ms: int) -> bool:
        limit_ms = max(self.config.silence_ms, self.config.silence_ratio * history.silence_ms_max)
        return history.windows >= self.config.signal_warm_windows and now_ms - self._since(history) >= limit_ms

    def _is_missing(self, history: ActivityHistory, tick: int) -> bool:
        silent = tick - history.last_tick
        usual_share = history.windows / max(1, history.last_tick - history.first_tick + 1)
        known = history.windows >= self.config.service_warm_windows
        return (
            known
            and silent >= max(self.config.silent_ticks_min, 2 * history.silent_ticks_max)
            and silent * usual_share >= self.config.silent_nats
        )

    def _since(self, history: ActivityHistory) -> int:
        return history.last_ms + self.config.emission.window_ms

    def _learn(self, model: ActivityModel, start_ms: int, window: WindowActivity, present: set[str]) -> None:
        model.env = model.env or ActivityHistory(start_ms)
        self._observe(model.env, start_ms, 0)
        for signal in present:
            self._observe(model.signals.setdefault(signal, ActivityHistory(start_ms)), start_ms, 0)
        for key in window.seen:
            tick = model.ticks[_split(key)[0]]
            self._observe(model.services.setdefault(key, ActivityHistory(start_ms, tick, tick)), start_ms, tick)

    def _forgotten(self, model: ActivityModel, start_ms: int, window: WindowActivity) -> Iterator[Insight]:
        """Services silent for idle_ms are expected no more, and the gaps of theirs end: names with a deploy id do."""
        evicted = sorted(
            key for key, history in model.services.items() if start_ms - history.last_ms > self.config.idle_ms
        )
        for key in evicted:
            history = model.services.pop(key)
            if history.gap_since_ms:
                gap = self._insight(*_split(key), history.gap_since_ms, start_ms, "closed", window.ranges)
                yield gap.model_copy(update={"reason": "silent for so long that it is no longer expected"})

    def _observe(self, history: ActivityHistory, start_ms: int, tick: int) -> None:
        history.silence_ms_max = max(history.silence_ms_max, start_ms - self._since(history))
        history.silent_ticks_max = max(history.silent_ticks_max, tick - history.last_tick - 1)
        history.last_ms, history.last_tick = start_ms, tick
        history.windows += 1

    def _insight(
        self, signal: str, service: str, since_ms: int, until_ms: int, status: Status, ranges: tuple[OffsetRange, ...]
    ) -> Insight:
        who = " of ".join(part for part in (signal or "all telemetry", service or self.env) if part)
        verb = "missing" if status == "open" else f"missing until {clock(until_ms)}"
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
            title=title_of(f"{who} {verb} since {clock(since_ms)}" if status == "open" else f"{who} {verb}"),
            reason="heard again" if status == "closed" else "",
            measures={"silence_s": (until_ms - since_ms) / 1000},
            evidence=Evidence(kafka=kafka_ranges(ranges), expected=usual),
        )


def _split(key: str) -> tuple[str, str]:
    signal, _, service = key.partition("|")
    return signal, service
