"""Recordings of telemetry: read, reshape, play."""
