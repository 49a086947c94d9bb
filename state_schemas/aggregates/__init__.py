"""Mergeable aggregates that stages send to each other."""
