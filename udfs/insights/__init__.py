"""Ids and texts that all insights share."""
