"""Functions from log records and exceptions to patterns and aggregates."""
