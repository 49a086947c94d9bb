"""Laws of folding, merging and pairing spans."""
