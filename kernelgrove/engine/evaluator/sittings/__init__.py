"""One worker held against a reference, and whose turn it is."""
