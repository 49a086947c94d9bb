"""Replace the variable and sensitive parts of a line by their kind."""
