"""Unit tests of OTLP decoding."""
