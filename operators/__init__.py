"""Machines: keyed state machines that know no engine, and the one adapter that does."""
