"""OTLP bytes to telemetry."""
