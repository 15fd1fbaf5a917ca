"""Searches as files that other programs read. All only read the store (design: docs/interchange.md)."""
