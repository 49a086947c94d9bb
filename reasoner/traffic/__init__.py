"""Generators of telemetry."""
