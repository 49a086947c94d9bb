"""Detection of new, returned and surging log patterns."""
