"""Complete runs: replay, explain, submit, demo."""
