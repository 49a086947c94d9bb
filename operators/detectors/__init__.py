"""Keyed machines that find what is unusual."""
