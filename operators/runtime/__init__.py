"""The two engines that run the graph: Flink, and one process."""
