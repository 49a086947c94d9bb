"""Tests for unusual data, one folder for each detector."""
