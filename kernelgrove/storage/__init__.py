"""The store: searches, their trees and every evaluation, in one SQLite file. Start at ``open_store``; ``documents``
holds what commands print, ``tables`` the schema, ``recorded`` the stored answers of proposers."""

from .store import Spent, SqliteStore, open_store

__all__ = ["Spent", "SqliteStore", "open_store"]
