"""Tests of the wheel and the sdist, outside of the checkout."""
