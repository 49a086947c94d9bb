"""Generated telemetry."""
