"""Draw the tree of a search as a picture: ``python docs/make_tree_picture.py GROVE [SEARCH] > docs/tree.svg``."""

from __future__ import annotations

import io
import re
import sys

from rich.console import Console

from kernelgrove.render import idea_tree
from kernelgrove.storage import open_store
from kernelgrove.storage.documents import find_search, tree_document


def main() -> None:
    with open_store(sys.argv[1]) as store:
        search = find_search(store, sys.argv[2] if len(sys.argv) > 2 else None)
        document = tree_document(store, search)
    console = Console(record=True, width=126, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(idea_tree(document, width=124))
    picture = console.export_svg(title=f"kernelgrove tree {document['search']}")
    # The fonts that rich names are fetched from elsewhere; any monospace font will do.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    sys.stdout.write(picture.replace("<svg ", '<svg xml:space="preserve" ', 1))


if __name__ == "__main__":
    main()
