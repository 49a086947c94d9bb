"""SQL that sources and sinks share: the options of their tables and the uids of the steps that Flink creates."""

from collections.abc import Mapping
from typing import Any

from state_schemas.contracts.settings import Kafka


def kafka_options(topic: str, kafka: Kafka) -> dict[str, str]:
    """Return the options of every Kafka table. `kafka.properties` come last, so they override the bootstrap servers."""
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": kafka.bootstrap_servers,
        **{f"properties.{key}": value for key, value in kafka.properties.items()},
    }


def with_clause(options: Mapping[str, str]) -> str:
    """Return options as `WITH ('key'='value', ...)`. Quotes in them, for example in `sasl.jaas.config`, are escaped."""
    pairs = ", ".join(f"{_literal(key)}={_literal(value)}" for key, value in options.items())
    return f"WITH ({pairs})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def stable_uids(tables: Any, prefix: str) -> None:
    """Set the uids of the statements that are translated next.

    They differ by prefix, so a further sink or source changes no uid of the others.
    """
    tables.get_config().set("table.exec.uid.format", f"{prefix}-<type>_<transformation>")
