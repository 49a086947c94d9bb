"""Scenarios of latency, errors and calls."""
