"""Traffic, drivers and comparisons that tests share."""
