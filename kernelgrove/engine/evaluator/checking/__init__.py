"""References, what they should give, and whether an output is right. Runs in the judge."""
