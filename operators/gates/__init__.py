"""Keyed machines that hold insights back until the environment is known."""
