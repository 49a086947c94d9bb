"""What a service runs: versions and images with the hosts that have them, by intervals in which any was seen."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import log
from typing import Final

from state_schemas.state.deploys import AttributeHistory, ValueHistory

__all__ = [
    "HOSTS_MAX",
    "VALUES_MAX",
    "Clock",
    "Places",
    "arrivals",
    "before",
    "can_replace",
    "current_hosts",
    "is_gone",
    "is_present",
    "is_replaced",
    "observe",
    "others",
]

VALUES_MAX: Final = 50  # values of an attribute that are remembered; those not seen for longest are forgotten
HOSTS_MAX: Final = 200  # hosts of a value
CONTAINERS_MAX: Final = 4  # names of containers of a value: of the pod's, not of each process
# A value that comes back begins anew where it was seen steadily before, in most of at least so many intervals, or was
# away for so long; else its absences belong to how it comes, as those of a canary with a record now and then.
STEADY_INTERVALS: Final = 4
STEADY_SHARE: Final = 0.75
AWAY_INTERVALS: Final = 288


@dataclass(frozen=True, slots=True)
class Clock:
    """Time of a window. interval: number since the epoch of the interval of reports that contains it."""

    start_ms: int
    interval: int
    # Nats of evidence with which a value that is not seen is gone.
    gone_nats: float


@dataclass(slots=True)
class Places:
    """Where a value was seen in a window."""

    hosts: set[str] = field(default_factory=set)
    containers: set[str] = field(default_factory=set)


def is_gone(history: AttributeHistory, value: str, clock: Clock, times: float = 1.0) -> bool:
    """Return whether a value has been missing for longer than chance explains; True for one that is not known.

    Of the active intervals since it came it was in the share p, so it is in none of n by chance with the probability
    (1 - p)^n. An interval that has not ended does not count. A canary with a record now and then is not gone for long.
    times: how much more evidence it takes than usual.
    """
    known = history.values.get(value)
    if known is None:
        return True
    active = history.active if clock.interval == history.interval else history.active + 1
    missed = active - known.last_active - 1
    return missed > 0 and missed * -log(1.0 - _share(known)) >= times * clock.gone_nats


def _share(known: ValueHistory) -> float:
    """Return the share of the active intervals in which a value was seen, as if there had been one more without it."""
    return known.intervals / (known.last_active - known.first_active + 2)


def arrivals(history: AttributeHistory, seen: Mapping[str, Places], clock: Clock) -> list[str]:
    """Return the values of a window that are new or were gone: the new ones, and those on most hosts, first."""
    found = (value for value in seen if is_gone(history, value, clock))
    return sorted(found, key=lambda value: (value in history.values, -len(seen[value].hosts), value))


def observe(
    history: AttributeHistory, seen: Mapping[str, Places], clock: Clock, arrived: Container[str], kept: Iterable[str]
) -> bool:
    """Add the values of a window with their places, in place; return whether any of it is the first in its interval.

    arrived: those that are new or were gone, as `arrivals` finds them. kept: values that are not forgotten.
    """
    if not seen:
        return False
    changed = clock.interval > history.interval
    if changed:
        history.interval, history.active = clock.interval, history.active + 1
        for known in history.values.values():
            known.hosts = {host: newest for host, newest in known.hosts.items() if newest >= clock.interval - 1}
    history.since_ms = history.since_ms or clock.start_ms
    for value in sorted(seen):
        if value in arrived and _is_anew(history.values.get(value), history.active):
            history.values[value] = ValueHistory(history.active, history.active - 1, 0, {})
        known, places = history.values[value], seen[value]
        known.containers = tuple(sorted({*known.containers, *places.containers}))[:CONTAINERS_MAX]
        changed |= _observe_hosts(history, known, places.hosts)
    _forget(history, set(kept))
    return changed


def _is_anew(known: ValueHistory | None, active: int) -> bool:
    if known is None or active - known.last_active > AWAY_INTERVALS:
        return True
    return known.intervals >= STEADY_INTERVALS and _share(known) >= STEADY_SHARE


def _observe_hosts(history: AttributeHistory, value: ValueHistory, hosts: set[str]) -> bool:
    changed = value.last_active < history.active
    if changed:
        value.last_active, value.intervals = history.active, value.intervals + 1
    for host in sorted(hosts):
        if value.hosts.get(host) != history.interval and (host in value.hosts or len(value.hosts) < HOSTS_MAX):
            value.hosts[host] = history.interval
            changed = True
    return changed


def _forget(history: AttributeHistory, kept: set[str]) -> None:
    """Forget the values beyond VALUES_MAX that were not seen for longest."""
    by_age = sorted(history.values.keys() - kept, key=lambda value: (history.values[value].last_active, value))
    for value in by_age[: max(0, len(history.values) - VALUES_MAX)]:
        del history.values[value]


def others(history: AttributeHistory, values: Container[str], containers: Iterable[str]) -> list[str]:
    """Return which other values containers of these names had; where there are none, all others.

    A sidecar has other versions and images than the service in its pod.
    """
    found = [value for value in history.values if value not in values]
    names = set(containers)
    return [value for value in found if names.intersection(history.values[value].containers)] or found


def before(history: AttributeHistory, arrived: Container[str], containers: Iterable[str]) -> str:
    """Return what these containers ran before values came: the one seen last, of several the one on most hosts."""
    found = others(history, arrived, containers)
    return max(found, key=lambda value: (*_newest(history.values[value]), value), default="")


def is_present(history: AttributeHistory, value: str) -> bool:
    """Return whether a value was seen in the newest active interval or in the one before."""
    known = history.values.get(value)
    return known is not None and known.last_active >= history.active - 1


def can_replace(history: AttributeHistory, value: str, by: str) -> bool:
    """Return whether containers that had a value can have another one now."""
    known = history.values.get(value)
    return by in others(history, (value,), known.containers if known else ())


def is_replaced(history: AttributeHistory, value: str, by: str) -> bool:
    """Return whether a known value has been followed by another one."""
    first, second = history.values.get(value), history.values.get(by)
    return first is not None and second is not None and second.last_active > first.last_active


def _newest(value: ValueHistory) -> tuple[int, int]:
    return value.last_active, len(value.hosts)


def current_hosts(history: AttributeHistory, value: str) -> Iterator[str]:
    """Yield the hosts that had a value in this interval or in the one before."""
    known = history.values.get(value)
    return iter(known.hosts if known else ())
