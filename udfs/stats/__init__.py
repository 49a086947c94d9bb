"""Statistics that depend on no domain: functions from numbers to numbers."""
