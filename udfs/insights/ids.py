"""Ids of insights and keys of services: pure functions of their parts."""

from hashlib import blake2b

from state_schemas.contracts.insight import Insight, Kind
from state_schemas.telemetry.resource import ServiceName


def insight_id(kind: Kind, env: str, service: str, subject: str, start_ms: int) -> str:
    """Return 32 hex digits: equal input gives an equal id, on every machine and in every replay.

    service: with its namespace (`state_schemas.telemetry.resource.ServiceName`).
    """
    text = "".join(f"{part}\x1f" for part in (kind, env, service, subject, start_ms))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def service_of(insight: Insight) -> str:
    """Return the service of an insight with its namespace, as keys and states name it."""
    return str(ServiceName(insight.namespace, insight.service))


def service_key(env: str, service: str) -> str:
    """Return the key of a service's state and of its messages.

    env contains no `|` (`udfs.otlp.resource` ensures it), so the first `|` separates the two.
    """
    return f"{env}|{service}"
