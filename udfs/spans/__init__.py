"""Spans to aggregates."""
