"""The two engines: Flink, and one process."""
