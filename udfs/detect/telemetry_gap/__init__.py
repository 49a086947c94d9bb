"""Detection of missing telemetry: of a service, a signal type or an environment."""
