"""What others read: insights, tables, dead letters, counters, settings. It only ever grows."""
