"""Whole runs: replay, submit, demo."""
