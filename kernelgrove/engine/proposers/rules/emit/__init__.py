"""Triton code from segments: one file a family, and the file around them."""
