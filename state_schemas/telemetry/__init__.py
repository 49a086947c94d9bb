"""Decoded OTLP records, one file for each signal type."""
