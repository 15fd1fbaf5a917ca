"""One worker held against a reference, and where its time goes."""
