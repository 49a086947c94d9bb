"""Sequence rules: reading their files, compiling their conditions, and matching signals in order."""
