"""State of the machines with its codec, one file for each machine and one for both gates."""
