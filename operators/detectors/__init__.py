"""Detectors: keyed machines that find anomalies."""
