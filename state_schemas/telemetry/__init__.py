"""Decoded OTLP, by signal."""
