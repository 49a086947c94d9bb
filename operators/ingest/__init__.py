"""Machines and folds from Kafka messages to aggregates by service."""
