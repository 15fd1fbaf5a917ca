"""The one error of this folder."""

from __future__ import annotations


class Unreadable(Exception):
    """An answer cannot be used; the text says why, in words that the one who answered can act on."""
