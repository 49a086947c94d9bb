"""Log records and exceptions to patterns and aggregates."""
