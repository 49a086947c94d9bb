"""Decoders from OTLP bytes to telemetry."""
