"""Wrong situations that users of the command line come into: each is made, and the real program is run in it."""
