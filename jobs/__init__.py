"""Wiring: sources, machines and sinks joined into Flink jobs."""
