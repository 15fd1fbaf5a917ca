"""Every document that a command prints from a store: plain dicts, ready for JSON (design: docs/cli.md). All only read.

==========================================  =======================================================
``find_search(store, "s1" | name | None)``  the search a user means
``search_document(store, search)``          ``run``, ``resume``
``list_document(store)``                    ``ls``
``tree_document(store, search)``            ``tree``
``best(store, search)``                     ``best``: one, with its code, or None
``leaders(store, search, k)``               the best *k*, fastest first
``show_document(store, "i3")``              ``show``
==========================================  =======================================================
"""

from .overview import best, find_search, leaders, list_document, search_document
from .show import show_document
from .tree import tree_document

__all__ = [
    "best",
    "find_search",
    "leaders",
    "list_document",
    "search_document",
    "show_document",
    "tree_document",
]
