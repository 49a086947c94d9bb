"""Rule of deploys: one window of a service against the versions and images that it is known to run.

A deploy is a version or an image that comes to a service after its warm-up. It is one roll-out until the one before is
gone, or it is gone itself, or another one follows. One that comes back after it was gone is a deploy once the one that
had followed it is gone: two that run side by side are not rolled back by turns.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import msgspec

from state_schemas.aggregates.releases import ReleaseWindow
from state_schemas.contracts.insight import Insight
from state_schemas.state.deploys import AttributeHistory, DeployModel, RollOut
from udfs.activity import merge_ranges
from udfs.detect.deploys.history import (
    HOSTS_MAX,
    Clock,
    Places,
    arrivals,
    before,
    current_hosts,
    is_gone,
    is_replaced,
    observe,
    others,
)
from udfs.detect.deploys.report import EXPIRED, SIDE_BY_SIDE, complete, report, rolled_back, superseded
from udfs.detect.lifecycle import OPEN, Course
from udfs.detect.service_window import ServiceKey, ServiceWindow

__all__ = ["DeployConfig", "evaluate_releases", "expire"]

HOUR_MS: Final = 3_600_000
# Values of attributes that name no version; `latest` is the tag of any image.
UNKNOWN: Final = frozenset(("", "unknown", "undefined", "null", "none", "latest"))
# A rollback needs so many times the evidence that a value is gone: of two side by side, each in 3 to 9 of 10 intervals,
# both are missing for a while by chance, on 12 days of 100 long enough for 1, on 1 for 2, on none for 3.
ROLLBACK_TIMES: Final = 3.0


@dataclass(frozen=True, slots=True)
class DeployConfig:
    """Settings of the rule of deploys."""

    # Milliseconds per report of what a host runs, that of pre-aggregation (`activity_report_ms`).
    interval_ms: int = 300_000
    # Time after the first value of an attribute in which further ones open nothing.
    warm_ms: int = 600_000
    # Nats of evidence with which a value is gone: one seen in each interval is gone after 1 to 6 without it.
    gone_nats: float = 4.0
    # A further value that comes within this time after the beginning of a roll-out belongs to it.
    same_ms: int = 120_000
    # A roll-out closes after this time, although the value before is still seen.
    roll_out_ms: int = HOUR_MS
    # Deploys of a service in an hour. Further ones, as of a version that each process makes, open no insight.
    an_hour_max: int = 6
    # A service without a version or image for this long is forgotten.
    idle_ms: int = 8 * 24 * HOUR_MS


def evaluate_releases(
    model: DeployModel, window: ServiceWindow[ReleaseWindow], config: DeployConfig
) -> tuple[DeployModel, list[Insight]]:
    """Return the model after the window, and its candidates. O(values + hosts).

    Only what is the first of its interval has an effect, so that reports that are repeated change nothing.
    """
    after = deepcopy(model)
    evaluation = _Evaluation(after, window, config)
    evaluation.judge()
    after.last_end_ms = window.end_ms
    return after, evaluation.candidates


def expire(key: ServiceKey, model: DeployModel) -> list[Insight]:
    """Return the closing candidate of the roll-out of a service that is forgotten."""
    return [report(key, model.roll_out, EXPIRED)] if model.roll_out and not model.roll_out.is_pending else []


class _Evaluation:
    """Evaluation of one window, which changes the model."""

    def __init__(self, model: DeployModel, window: ServiceWindow[ReleaseWindow], config: DeployConfig) -> None:
        self.model = model
        self.window = window
        self.config = config
        self.clock = Clock(window.start_ms, window.start_ms // config.interval_ms, config.gone_nats)
        self.versions: dict[str, Places] = {}
        self.images: dict[str, Places] = {}
        for seen in window.table.seen:
            for value, places in ((seen.version, self.versions), (seen.image, self.images)):
                if value.lower() not in UNKNOWN:
                    at = places.setdefault(value, Places())
                    at.hosts.add(seen.host)
                    at.containers.add(seen.container)
        self.candidates: list[Insight] = []

    def judge(self) -> None:
        """Learn the values of the window; begin a roll-out, or follow the one that goes on."""
        model, known = self.model, {*self.model.version.values, *self.model.image.values}
        version, version_before = self._arrived(model.version, self.versions)
        image, image_before = self._arrived(model.image, self.images)
        going = (model.roll_out.value, model.roll_out.value_before) if model.roll_out else ()
        kept = {version, image, version_before, image_before, *going}
        changed = observe(model.version, self.versions, self.clock, kept)
        changed |= observe(model.image, self.images, self.clock, kept)
        if version or image:
            came = RollOut(
                attribute="version" if version else "image",
                start_ms=self.window.start_ms,
                end_ms=self.window.end_ms,
                version=version,
                image=image,
                version_before=version_before,
                image_before=image_before,
                is_known={version, image} - {""} <= known,
                hosts=(),
                hosts_before=0,
                ranges=(),
            )
            self._begin(came)
        if changed and model.roll_out:
            self._follow(model.roll_out)

    def _arrived(self, history: AttributeHistory, seen: dict[str, Places]) -> tuple[str, str]:
        """Return the value that comes with this window and the one before it; ("", "") where none comes."""
        found = arrivals(history, seen, self.clock)
        if history.since_ms and self.window.start_ms - history.since_ms >= self.config.warm_ms:
            for value in found:
                value_before = before(history, found, seen[value].containers)
                if value not in history.values or is_replaced(history, value, value_before):
                    return value, value_before
        return "", ""

    def _begin(self, came: RollOut) -> None:
        """Begin a roll-out, or join the one that goes on.

        An image that comes after its version, or a version after its image, belongs to it; so does a second value that
        comes at the same time, as where log records spell the version differently or services share a name.
        """
        model, now = self.model, self.model.roll_out
        is_other = now is None or (now.version and came.version) or (now.image and came.image)
        if now and (not is_other or came.start_ms - now.start_ms < self.config.same_ms):
            model.roll_out = msgspec.structs.replace(
                now,
                version=now.version or came.version,
                image=now.image or came.image,
                version_before=now.version_before or came.version_before,
                image_before=now.image_before or came.image_before,
                is_known=now.is_known and came.is_known,
            )
            return
        if now and not now.is_pending:
            if came.is_known:
                return
            self.candidates.append(report(self.window.key, now, superseded(came)))
        model.roll_out = came if came.is_known or self._has_room(came) else None

    def _has_room(self, came: RollOut) -> bool:
        """Return whether a deploy is one of the first of its hour, and remember it."""
        model = self.model
        recent = tuple(at_ms for at_ms in model.begun_ms if at_ms > came.start_ms - HOUR_MS)
        model.begun_ms = (*recent, came.start_ms)[-self.config.an_hour_max :]
        is_suppressed = len(recent) >= self.config.an_hour_max
        model.suppressed += is_suppressed
        return not is_suppressed

    def _follow(self, roll_out: RollOut) -> None:
        """Add the hosts that follow, and report what is due."""
        seen = self.versions if roll_out.attribute == "version" else self.images
        here = seen[roll_out.value].hosts if roll_out.value in seen else set()
        new = sorted(here.difference(roll_out.hosts))[: HOSTS_MAX - len(roll_out.hosts)]
        after = msgspec.structs.replace(roll_out, hosts_before=self._hosts_before(roll_out))
        if new:
            after = msgspec.structs.replace(
                after,
                end_ms=self.window.end_ms,
                hosts=(*roll_out.hosts, *new),
                ranges=merge_ranges((*roll_out.ranges, *self.window.table.ranges)),
            )
        course = self._course(roll_out, after)
        is_over = course is not None and course.status == "closed"
        if course is not None and not (is_over and after.is_pending):
            after = msgspec.structs.replace(after, hosts_reported=len(after.hosts))
            self.candidates.append(report(self.window.key, after, course))
        self.model.roll_out = None if is_over else after

    def _course(self, roll_out: RollOut, after: RollOut) -> Course | None:
        """Return the revision that is due: the first, one as hosts double or all have followed, the last."""
        history = self._history(after)
        if is_gone(history, after.value, self.clock):
            return rolled_back(after)
        if is_gone(history, after.value_before, self.clock, ROLLBACK_TIMES if after.is_pending else 1.0):
            return OPEN if after.is_pending else complete(after)
        if self.window.start_ms - after.start_ms >= self.config.roll_out_ms:
            return SIDE_BY_SIDE
        if not after.hosts_reported:
            return None if after.is_pending else OPEN
        is_last = bool(roll_out.hosts_before) and not after.hosts_before
        return Course("updated") if len(after.hosts) >= 2 * after.hosts_reported or is_last else None

    def _history(self, roll_out: RollOut) -> AttributeHistory:
        return self.model.version if roll_out.attribute == "version" else self.model.image

    def _hosts_before(self, roll_out: RollOut) -> int:
        """Count the hosts whose containers have another value only."""
        history, value = self._history(roll_out), roll_out.value
        values = others(history, (value,), history.values[value].containers if value in history.values else ())
        hosts = {host for other in values for host in current_hosts(history, other)}
        return len(hosts.difference(current_hosts(history, value)))
