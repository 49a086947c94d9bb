"""Laws of log patterns: counts and usual rates."""
