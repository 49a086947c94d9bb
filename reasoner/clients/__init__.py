"""Clients of Flink, Kafka and the lake."""
