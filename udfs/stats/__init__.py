"""Statistics without a domain: numbers in, numbers out."""
