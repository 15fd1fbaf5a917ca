"""Files of other programs, and our own exports, as searches in the store.

Each importer writes what a file holds in one transaction: a file that is broken half-way leaves nothing behind
(design: docs/interchange.md).
"""
