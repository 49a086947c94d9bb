"""Unit tests of masking, user names and exceptions."""
