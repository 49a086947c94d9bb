"""Detection of changes in the effects of requests: the lines and calls that usually go with them."""
