"""Detection quality on recordings with a known truth, with the shipped graph at its default settings."""
