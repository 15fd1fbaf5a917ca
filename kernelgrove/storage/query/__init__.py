"""The query language: text to parameterised SQL, run on a connection that cannot write. docs/queries.md is its page.

``lexer`` and ``parser`` read it into the trees of ``syntax``; ``fields`` and ``relations`` say what may be asked of
what; ``conditions`` and ``stages`` make the SQL; ``run`` runs it. Values of a query never become SQL text.
"""

from .fields import Facts
from .parser import parse
from .run import Answer, ask, ask_raw
from .stages import Wanted, translate
from .syntax import write

__all__ = ["Answer", "Facts", "Wanted", "ask", "ask_raw", "parse", "translate", "write"]
