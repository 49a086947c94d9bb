"""Scenarios of missing telemetry."""
