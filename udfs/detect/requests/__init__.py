"""Lines and calls that usually go with requests."""
