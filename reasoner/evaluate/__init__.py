"""Detection quality on recordings with known truth, with the shipped graph at its default settings."""
