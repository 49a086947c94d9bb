"""Latency and error ratio of a service, its hosts, operations and callees."""
