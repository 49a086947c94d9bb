"""Benchmarks of throughput, memory and false alarms; each result includes its machine and commit."""
