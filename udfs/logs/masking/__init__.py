"""Masking: the variable and sensitive parts of a line are replaced by their kind."""
