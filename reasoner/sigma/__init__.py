"""Import of Sigma rules: detection and correlation rules become sequence rules, or are refused with the reason."""
