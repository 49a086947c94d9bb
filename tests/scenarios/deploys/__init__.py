"""Scenarios of deploys."""
