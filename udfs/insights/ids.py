"""Names that are pure functions of what they name."""

from hashlib import blake2b

from state_schemas.contracts.insight import Kind


def insight_id(kind: Kind, env: str, service: str, subject: str, start_ms: int, rule: str = "") -> str:
    """32 hex digits. Equal input, equal id, on every machine and in every replay. rule: `id@version` or empty."""
    text = "\x1f".join((kind, env, service, subject, str(start_ms), rule))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def service_key(env: str, service: str) -> str:
    """Key of a service's state and of its messages. env holds no `|` (`udfs.otlp.resource`), so the first one splits
    it.
    """
    return f"{env}|{service}"


def split_service_key(key: str) -> tuple[str, str]:
    """(env, service): inverse of `service_key`."""
    env, _, service = key.partition("|")
    return env, service
