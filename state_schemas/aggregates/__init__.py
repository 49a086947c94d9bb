"""Mergeable summaries on their way between stages."""
