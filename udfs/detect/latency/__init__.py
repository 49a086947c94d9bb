"""Detection of unusual latency and error ratio of a service, its hosts, operations and callees."""
