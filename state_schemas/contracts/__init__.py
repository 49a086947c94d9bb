"""Contracts with other programs: insights, tables, dead letters, counters, settings. They only ever grow."""
