"""Laws of the latency detector."""
