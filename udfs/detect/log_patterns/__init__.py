"""New, returned and surging log patterns."""
