"""Keyed machines that relate the results of detectors to each other."""
