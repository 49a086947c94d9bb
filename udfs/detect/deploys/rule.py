"""Rule of deploys: one window of a service against the versions and images that it is known to run.

A deploy is a version or an image that comes to a service after its warm-up. It is one roll-out until the one before is
gone, or it is gone itself, or another one follows. One that comes back after it was gone is pending until the one that
had followed it is gone, beside a roll-out that goes on: two that run side by side are not rolled back by turns.
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
    can_replace,
    current_hosts,
    is_gone,
    is_present,
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
# After `roll_out_ms`: in the second hour, 3 are reached by chance on 2 of 1,500 days, and 4 on 2 of 4,500.
LATE_ROLLBACK_TIMES: Final = 6.0
PENDING_MAX: Final = 6  # values of a service that have come back beside others; the newest are followed


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
    # A roll-out closes after this time, although the value before is still seen. A value that comes back is followed
    # for twice as long: hosts may drain the one before slowly.
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
    now = after.roll_out
    if now and now.is_known and not now.hosts_reported:  # of a state without `pending`
        after.roll_out, after.pending = None, (now,)
    evaluation = _Evaluation(after, window, config)
    evaluation.judge()
    after.last_end_ms = window.end_ms
    return after, evaluation.candidates


def expire(key: ServiceKey, model: DeployModel) -> list[Insight]:
    """Return the closing candidate of the roll-out of a service that is forgotten."""
    return [report(key, model.roll_out, EXPIRED)] if model.roll_out else []


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
        """Learn the values of the window; begin roll-outs, and follow those that go on."""
        model = self.model
        versions = arrivals(model.version, self.versions, self.clock)
        images = arrivals(model.image, self.images, self.clock)
        came = self._came(versions, images)
        going = (*((model.roll_out,) if model.roll_out else ()), *model.pending, *came)
        kept = {name for one in going for name in (one.version, one.image, one.version_before, one.image_before)}
        changed = observe(model.version, self.versions, self.clock, versions, kept)
        changed |= observe(model.image, self.images, self.clock, images, kept)
        for roll_out in came:
            self._begin(roll_out)
        if changed:
            self._settle()
        if changed and model.roll_out:
            self._follow(model.roll_out)

    def _came(self, versions: list[str], images: list[str]) -> list[RollOut]:
        """Return what comes of the values that arrive: a new version and image are one, each known value is its own.

        The known ones on most hosts are at the end.
        """
        new: dict[str, str] = {}
        known: list[dict[str, str]] = []
        parts = (
            ("version", self.model.version, self.versions, versions),
            ("image", self.model.image, self.images, images),
        )
        for attribute, history, seen, arrived in parts:
            if not history.since_ms or self.window.start_ms - history.since_ms < self.config.warm_ms:
                continue
            for value in arrived:
                if value not in history.values and attribute in new:
                    continue
                value_before = before(history, arrived, seen[value].containers)
                part = {attribute: value, f"{attribute}_before": value_before}
                if value not in history.values:
                    new |= part
                elif is_replaced(history, value, value_before):
                    known.append(part)
        came = [self._roll_out(new, is_known=False)] if new else []
        return came + [self._roll_out(part, is_known=True) for part in reversed(known)]

    def _roll_out(self, values: dict[str, str], *, is_known: bool) -> RollOut:
        return RollOut(
            attribute="version" if "version" in values else "image",
            start_ms=self.window.start_ms,
            end_ms=self.window.end_ms,
            version=values.get("version", ""),
            image=values.get("image", ""),
            version_before=values.get("version_before", ""),
            image_before=values.get("image_before", ""),
            is_known=is_known,
            hosts=(),
            hosts_before=0,
            ranges=(),
        )

    def _begin(self, came: RollOut) -> None:
        """Begin a roll-out, or join the one that goes on; what is known is pending first.

        A new image that comes after its version, or a version after its image, belongs to it; so does a second new
        value that comes at the same time, as where log records spell the version differently or services share a name.
        """
        model, now = self.model, self.model.roll_out
        if came.is_known:
            further = (other for other in model.pending if other.value != came.value)
            model.pending = (*further, came)[-PENDING_MAX:]
        elif now and (_is_other_part(now, came) or self._is_near(now, came)):
            model.roll_out = _joined(now, came)
        else:
            if now:
                self.candidates.append(report(self.window.key, now, superseded(came)))
            model.roll_out = came if self._has_room(came) else None

    def _is_near(self, now: RollOut, came: RollOut) -> bool:
        return abs(came.start_ms - now.start_ms) < self.config.same_ms

    def _has_room(self, came: RollOut) -> bool:
        """Return whether a deploy is one of the first of its hour, and remember it."""
        model = self.model
        recent = tuple(at_ms for at_ms in model.begun_ms if at_ms > came.start_ms - HOUR_MS)
        model.begun_ms = (*recent, came.start_ms)[-self.config.an_hour_max :]
        is_suppressed = len(recent) >= self.config.an_hour_max
        model.suppressed += is_suppressed
        return not is_suppressed

    def _settle(self) -> None:
        """Follow what is pending: forget what is over, and begin the roll-out of what has replaced the value before."""
        model, now = self.model, self.model.roll_out
        is_back = now is not None and self._is_gone(now, now.value)
        said = now.value_before if now and is_back else ""
        model.pending = tuple(
            self._with_hosts(other) for other in model.pending if other.value != said and not self._is_over(other)
        )
        due = [other for other in model.pending if self._is_due(other)]
        if not due:
            return
        first = max(due, key=lambda other: (other.attribute == "version", len(other.hosts)))
        begun = first
        if now and not is_back and _is_other_part(now, first):
            begun = now
        elif now:
            self.candidates.append(report(self.window.key, now, rolled_back(now) if is_back else superseded(first)))
        same = [other for other in model.pending if self._is_same(first, other)]
        model.pending = tuple(other for other in model.pending if other not in same)
        for other in same:
            if _is_other_part(begun, other) and self._has_replaced(other, other.value_before):
                begun = _joined(begun, other)
        model.roll_out = begun

    def _is_due(self, pending: RollOut) -> bool:
        is_late = self.window.start_ms - pending.start_ms >= self.config.roll_out_ms
        times = LATE_ROLLBACK_TIMES if is_late else ROLLBACK_TIMES
        return self._is_gone(pending, pending.value_before, times) and self._has_replaced(pending, pending.value_before)

    def _is_same(self, first: RollOut, other: RollOut) -> bool:
        """Return whether another one that is pending is part of the first, or has not replaced what that has."""
        if _is_other_part(first, other) and self._is_gone(other, other.value_before):
            return True
        return other.value_before == first.value_before or self._is_near(first, other)

    def _is_over(self, pending: RollOut) -> bool:
        is_late = self.window.start_ms - pending.start_ms >= 2 * self.config.roll_out_ms
        return is_late or self._is_gone(pending, pending.value)

    def _is_gone(self, roll_out: RollOut, value: str, times: float = 1.0) -> bool:
        return is_gone(self._history(roll_out), value, self.clock, times)

    def _follow(self, roll_out: RollOut) -> None:
        """Add the hosts that follow, and report what is due."""
        after = self._with_hosts(roll_out)
        course = self._course(roll_out, after)
        is_over = course is not None and course.status == "closed"
        if course is not None:
            after = msgspec.structs.replace(after, hosts_reported=len(after.hosts))
            self.candidates.append(report(self.window.key, after, course))
        self.model.roll_out = None if is_over else after

    def _with_hosts(self, roll_out: RollOut) -> RollOut:
        """Return a roll-out with the hosts that follow in this window."""
        seen = self.versions if roll_out.attribute == "version" else self.images
        here = seen[roll_out.value].hosts if roll_out.value in seen else set()
        new = sorted(here.difference(roll_out.hosts))[: HOSTS_MAX - len(roll_out.hosts)]
        after = msgspec.structs.replace(roll_out, hosts_before=self._hosts_before(roll_out))
        if not new:
            return after
        return msgspec.structs.replace(
            after,
            end_ms=self.window.end_ms,
            hosts=(*roll_out.hosts, *new),
            ranges=merge_ranges((*roll_out.ranges, *self.window.table.ranges)),
        )

    def _course(self, roll_out: RollOut, after: RollOut) -> Course | None:
        """Return the revision that is due: the first, one as hosts double or all have followed, the last."""
        is_late = self.window.start_ms - after.start_ms >= self.config.roll_out_ms
        if not after.hosts_reported and after.is_known:
            return OPEN
        if self._is_gone(after, after.value):
            return rolled_back(after)
        if self._is_gone(after, after.value_before):
            third = self._third(after)
            if third is None:
                return complete(after)
            if is_late:
                return superseded(third)
        elif is_late:
            return SIDE_BY_SIDE
        if not after.hosts_reported:
            return OPEN
        is_last = bool(roll_out.hosts_before) and not after.hosts_before
        return Course("updated") if len(after.hosts) >= 2 * after.hosts_reported or is_last else None

    def _third(self, roll_out: RollOut) -> RollOut | None:
        """Return what is pending and may have replaced the value before as well."""
        pending = (other for other in self.model.pending if other.attribute == roll_out.attribute)
        return next((other for other in pending if self._has_replaced(other, roll_out.value_before)), None)

    def _has_replaced(self, pending: RollOut, value: str) -> bool:
        """Return whether what came back is seen now, in containers that may have had a value that is gone."""
        history = self._history(pending)
        return is_present(history, pending.value) and can_replace(history, value, pending.value)

    def _history(self, roll_out: RollOut) -> AttributeHistory:
        return self.model.version if roll_out.attribute == "version" else self.model.image

    def _hosts_before(self, roll_out: RollOut) -> int:
        """Count the hosts whose containers have another value only."""
        history, value = self._history(roll_out), roll_out.value
        values = others(history, (value,), history.values[value].containers if value in history.values else ())
        hosts = {host for other in values for host in current_hosts(history, other)}
        return len(hosts.difference(current_hosts(history, value)))


def _is_other_part(now: RollOut, came: RollOut) -> bool:
    """Return whether what came is an image beside a version alone, or a version beside an image alone."""
    return not (now.version and came.version) and not (now.image and came.image)


def _joined(now: RollOut, came: RollOut) -> RollOut:
    return msgspec.structs.replace(
        now,
        version=now.version or came.version,
        image=now.image or came.image,
        version_before=now.version_before or came.version_before,
        image_before=now.image_before or came.image_before,
        is_known=now.is_known and came.is_known,
    )
