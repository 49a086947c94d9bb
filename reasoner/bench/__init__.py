"""Throughput and memory of the shipped job, with its machine and commit in the same line."""
