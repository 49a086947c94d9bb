"""Functions from spans to aggregates."""
