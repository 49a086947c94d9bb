"""From Kafka messages to aggregates by service."""
