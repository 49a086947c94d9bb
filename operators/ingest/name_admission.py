"""Bounds of service and environment names: further names are counted as `other`."""

from dataclasses import dataclass, field

from state_schemas.aggregates.names import OTHER
from state_schemas.contracts.counters import MetricName
from state_schemas.state.pre_aggregate import PreAggregateState
from udfs.event_time import WINDOW_MS
from udfs.spans.window import NameLimits


@dataclass(frozen=True, slots=True)
class PreAggregateConfig:
    """Settings of pre-aggregation. All limits are per source partition."""

    # Services with a name of their own in an environment; further ones become `other`.
    services_max: int = 5_000
    # Environments with a name of their own; further ones become `other`.
    envs_max: int = 50
    # Milliseconds of event time without records after which a name is forgotten and its place is free.
    idle_ms: int = 24 * 3_600_000
    # Length of all windows in milliseconds.
    window_ms: int = WINDOW_MS
    # Milliseconds per report that a service has spans. Reports each minute would cost more than all other work on
    # exceptions: 0.37 of a core at 10,000 services. What a host runs is reported as often, and at once where it is new.
    activity_report_ms: int = 300_000
    # Hosts, operations and callees with a row of their own.
    names: NameLimits = field(default_factory=NameLimits)


class AdmittedNames:
    """The names under which the contents of one message are counted, and the number of those that became `other`."""

    def __init__(self, state: PreAggregateState, config: PreAggregateConfig) -> None:
        self._state = state
        self._config = config
        self._refused_services: set[tuple[str, str]] = set()
        self._refused_envs: set[str] = set()

    def env(self, env: str) -> str:
        """Return the name under which an environment is counted; `other` itself uses no place."""
        known = self._state.known
        if env in known or env == OTHER or len(known) - (OTHER in known) < self._config.envs_max:
            return env
        self._refused_envs.add(env)
        return OTHER

    def service(self, env: str, service: str, start_ms: int) -> str:
        """Return the name under which a service is counted that sent records in the window at start_ms."""
        known = self._state.known.setdefault(env, {})
        if service in known or len(known) < self._config.services_max:
            known[service] = max(start_ms, known.get(service, 0))
            return service
        self._refused_services.add((env, service))
        return OTHER

    @property
    def counts(self) -> tuple[tuple[MetricName, int], ...]:
        return (
            ("services_overflowed_total", len(self._refused_services)),
            ("envs_overflowed_total", len(self._refused_envs)),
        )


def forget_names(state: PreAggregateState, idle_since_ms: int) -> None:
    """Drop the names without a record after idle_since_ms, so that their places are free."""
    for env, names in list(state.known.items()):
        kept = {name: seen_ms for name, seen_ms in names.items() if seen_ms > idle_since_ms}
        if len(kept) < len(names):
            state.known[env] = kept
            reported, releases = state.reported.get(env, {}), state.reported_releases.get(env, {})
            state.reported[env] = {name: intervals for name, intervals in reported.items() if name in kept}
            state.reported_releases[env] = {name: marks for name, marks in releases.items() if name in kept}
        if not kept:
            del state.known[env]
            state.reported.pop(env, None)
            state.reported_releases.pop(env, None)
