"""Scenarios of log patterns."""
