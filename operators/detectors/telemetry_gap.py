"""No-data detector: a service, a signal type or a whole environment that was active sends no records.

Events are `EnvActivity`, outputs `Insight`. That records are missing is concluded only from records of others: a window
without any record of the environment has no result until a later window has records.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final, get_args

from operators.emission import EmissionConfig
from operators.windowed import Counts, Evaluated, WindowedDetector, WindowPart
from state_schemas.aggregates.activity import EnvActivity
from state_schemas.codec import Codec
from state_schemas.contracts.dead_letter import DeadLetter
from state_schemas.contracts.insight import Evidence, Insight, Window
from state_schemas.state.detector import DetectorState, RollupWindow
from state_schemas.state.telemetry_gap import GAP_CODEC, ActivityHistory, ActivityModel, WindowActivity
from state_schemas.telemetry.message import OffsetRange
from state_schemas.telemetry.resource import ServiceName
from udfs.activity import merge_ranges
from udfs.detect.service_window import ServiceKey, ServiceWindow
from udfs.insights.ids import insight_id
from udfs.insights.wording import clock, elapsed, kafka_ranges, title_of

ALL_SERVICES: Final = ""  # service of an insight about a whole signal type or environment

RESUMED: Final = "records received again"
EXPIRED: Final = "no records for so long that none are expected"


@dataclass(frozen=True, slots=True)
class GapConfig:
    """Settings of the no-data detector.

    The silence of an environment or a signal type is measured in ms, that of a service in *ticks*: windows in which its
    signal type was active in any service.
    """

    emission: EmissionConfig = field(default_factory=EmissionConfig)
    # Shortest silence of an environment or a signal type that opens an insight.
    silence_ms: int = 120_000
    # The silence must also be this many times the longest one so far.
    silence_ratio: float = 6.0
    # Active windows before the silence of an environment or a signal type is evaluated.
    signal_warm_windows: int = 12
    # Active windows before the silence of a service is evaluated.
    service_warm_windows: int = 30
    # Fewest silent ticks of a service that open an insight; they must also be twice the longest silence so far.
    silent_ticks_min: int = 12
    # A service that is usually active in the share p of ticks is silent for n ticks with probability ~ exp(-p * n);
    # that must be under exp(-silent_nats).
    silent_nats: float = 14.0
    # A service, or a whole environment, without records for this long is no longer expected and is forgotten.
    idle_ms: int = 24 * 3_600_000


Output = Insight | DeadLetter


class GapRule:
    """Rule for the activity of an environment. Nothing is rolled up. The model is changed in a copy."""

    resolutions_s: Final = ()

    def __init__(self, config: GapConfig) -> None:
        self.config = config
        self.emission = config.emission
        self.idle_ms = config.idle_ms
        self.fingerprint = f"window_ms={config.emission.window_ms} activity=1"

    @property
    def codec(self) -> Codec[DetectorState[ActivityModel, WindowActivity]]:
        return GAP_CODEC

    def empty(self) -> ActivityModel:
        return ActivityModel()

    def parts(self, event: EnvActivity, model: ActivityModel) -> Iterator[WindowPart[WindowActivity]]:
        for window in event.windows:
            seen = {f"{active.signal}|{active.service}": active.records for active in window.seen}
            yield WindowPart(window.start_ms, False, WindowActivity(seen, window.ranges))

    def records(self, aggregate: WindowActivity) -> int:
        return sum(aggregate.seen.values())

    def merge(self, start_ms: int, parts: Sequence[WindowActivity], model: ActivityModel) -> WindowActivity:
        seen: dict[str, int] = {}
        for part in parts:
            for name, records in part.seen.items():
                seen[name] = seen.get(name, 0) + records
        return WindowActivity(seen, merge_ranges(offsets for part in parts for offsets in part.ranges))

    def overflow(self, aggregate: WindowActivity) -> Counts:
        return ()

    def rows(
        self, key: ServiceKey, window: RollupWindow, aggregate: WindowActivity, model: ActivityModel
    ) -> tuple[Insight, ...]:
        return ()

    def watched(self, aggregate: WindowActivity) -> WindowActivity:
        return aggregate

    def evaluate(
        self, window: ServiceWindow[WindowActivity], model: ActivityModel
    ) -> tuple[ActivityModel, list[Insight]]:
        after = deepcopy(model)
        found = list(_Evaluation(window.env, self.config).insights(after, window.start_ms, window.table))
        after.last_end_ms = window.end_ms
        return after, found

    def expire(self, key: ServiceKey, model: ActivityModel) -> list[Insight]:
        """Return nothing: an environment without records for a day allows no conclusion about its services."""
        return []

    def outputs(self, evaluated: Evaluated[ActivityModel]) -> Sequence[Insight]:
        return evaluated.revisions

    def counts(self, evaluated: Evaluated[ActivityModel]) -> Counts:
        return ()


class TelemetryGap(WindowedDetector[ActivityModel, WindowActivity, EnvActivity, Output]):
    """No-data detector. One state for each environment; pre-aggregation limits the services in it."""

    takes = (EnvActivity,)
    gives = get_args(Output)

    def __init__(self, config: GapConfig) -> None:
        super().__init__(GapRule(config), lambda aggregate: len(aggregate.seen))


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Evaluation of one window of activity against the usual activity."""

    env: str
    config: GapConfig

    def insights(self, model: ActivityModel, start_ms: int, window: WindowActivity) -> Iterator[Insight]:
        if model.env is not None and self._is_long(model.env, start_ms):
            yield self._insight("", ALL_SERVICES, self._since(model.env), start_ms, RESUMED, window.ranges)
            for history in model.signals.values():
                history.last_ms = max(
                    history.last_ms, start_ms - self.config.emission.window_ms
                )  # the silence was that of the environment, so it does not count for the signal type
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
                yield self._insight(signal, ALL_SERVICES, history.gap_since_ms, start_ms, RESUMED, window.ranges)
                history.gap_since_ms = 0
                history.last_ms = start_ms  # a silence with an insight does not count as usual
            elif signal not in present and not history.gap_since_ms and self._is_long(history, start_ms):
                history.gap_since_ms = self._since(history)
                until_ms = start_ms + self.config.emission.window_ms
                yield self._insight(signal, ALL_SERVICES, history.gap_since_ms, until_ms, "", window.ranges)

    def _services(
        self, model: ActivityModel, start_ms: int, window: WindowActivity, present: set[str]
    ) -> Iterator[Insight]:
        for key, history in sorted(model.services.items()):
            signal, service = _split(key)
            tick = model.ticks.get(signal, 0)
            if key in window.seen and history.gap_since_ms:
                yield self._insight(signal, service, history.gap_since_ms, start_ms, RESUMED, window.ranges)
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
                yield self._insight(signal, service, history.gap_since_ms, until_ms, "", window.ranges)

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
        """Forget services without records for idle_ms and close their insights: names with a deploy id come and go."""
        evicted = sorted(
            key for key, history in model.services.items() if start_ms - history.last_ms > self.config.idle_ms
        )
        for key in evicted:
            history = model.services.pop(key)
            if history.gap_since_ms:
                yield self._insight(*_split(key), history.gap_since_ms, start_ms, EXPIRED, window.ranges)

    def _observe(self, history: ActivityHistory, start_ms: int, tick: int) -> None:
        history.silence_ms_max = max(history.silence_ms_max, start_ms - self._since(history))
        history.silent_ticks_max = max(history.silent_ticks_max, tick - history.last_tick - 1)
        history.last_ms, history.last_tick = start_ms, tick
        history.windows += 1

    def _insight(
        self, signal: str, service: str, since_ms: int, until_ms: int, reason: str, ranges: tuple[OffsetRange, ...]
    ) -> Insight:
        """Return the insight of a silence. reason: why it is closed, "" while it is open."""
        name, records = ServiceName.parse(service), signal or "telemetry"
        finding = f"no {records} since {clock(since_ms)}"
        if reason == RESUMED:
            finding = f"{records} again after {elapsed(until_ms - since_ms)} without, since {clock(until_ms)}"
        elif reason == EXPIRED:
            finding += ", no longer expected"
        usual = f"{records} of {name.name or 'this environment'}, last seen before {clock(since_ms)}"
        return Insight(
            insight_id=insight_id("telemetry_gap", self.env, service, signal, since_ms),
            revision=0,
            status="closed" if reason else "open",
            kind="telemetry_gap",
            env=self.env,
            namespace=name.namespace,
            service=name.name,
            subject=signal,
            window=Window(start_ms=since_ms, end_ms=until_ms),
            severity="info" if reason else "warning",
            confidence=0.9,
            title=title_of(f"{name.name or self.env}: {finding}"),
            reason=reason,
            measures={"silence_s": (until_ms - since_ms) / 1000},
            evidence=Evidence(kafka=kafka_ranges(ranges), expected=usual),
        )


def _split(key: str) -> tuple[str, str]:
    signal, _, service = key.partition("|")
    return signal, service
