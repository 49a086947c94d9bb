"""Unit tests of `reasoner`."""
