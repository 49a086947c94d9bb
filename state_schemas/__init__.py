"""Nouns: plain data with its wire forms. Imports nothing of the project."""
