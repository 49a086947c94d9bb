"""One module for each sub-command; they parse, call and print."""
