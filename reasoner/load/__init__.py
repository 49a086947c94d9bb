"""Where telemetry comes from when no application sends it: a generated shop, recordings, and their way into Kafka."""
