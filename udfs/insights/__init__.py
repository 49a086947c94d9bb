"""Ids and words that all insights share."""
