"""Laws of masked lines and patterns."""
