"""Unit tests of `operators.runtime`."""
