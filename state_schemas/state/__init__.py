"""State of the machines, one file each, with its codec."""
