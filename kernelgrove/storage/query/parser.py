"""Tokens to a ``Query``. The grammar, ``{}`` for any number of times and ``[]`` for maybe::

    query     = [condition] {"|" stage}   a query may begin with a stage, its "|" left out
    condition = all {"or" all}
    all       = term {"and" term}
    term      = "not" term | "(" condition ")" | FIELD OPERATOR value | FIELD ["not"] "in" "(" value {"," value} ")"
              | "under" ID | "above" ID
    value     = WORD | STRING | "none"
    stage     = "best" [NUMBER] ["by" FIELD] ["per" fields] | "repeated" "by" fields | "lost" "on" value
              | "count" ["by" fields] | "stats" FIELD ["by" fields] | "cost" ["by" fields] | "lineage"
    fields    = FIELD {"," FIELD}

Names are not looked up here: that depends on what is asked about.
"""

from __future__ import annotations

from .lexer import Token, fault, nearest, tokens
from .syntax import RESERVED, All, Among, Any, Compare, Condition, Name, Not, Place, Query, Stage, Value

STAGES = ("best", "repeated", "lost", "count", "stats", "cost", "lineage")

#: Most comparisons and values of a query, and how deep parentheses may go: below SQLite's own limits.
MOST_COMPARISONS, MOST_VALUES, DEEPEST = 300, 5000, 40


def parse(text: str) -> Query:
    """Raises UsageError that points at the first thing that is wrong."""
    return _Parser(tokens(text)).query()


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = self._comparisons = self._values = 0

    @property
    def now(self) -> Token:
        return self._tokens[self._at]

    def _ahead(self, steps: int = 1) -> Token:
        return self._tokens[min(self._at + steps, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self.now
        if token.kind != "end":
            self._at += 1
        return token

    def _skip(self, word: str) -> bool:
        """Take *word* (a keyword or a mark) where it stands."""
        if self.now.word == word or (self.now.kind == "mark" and self.now.text == word):
            self._take()
            return True
        return False

    def _must(self, mark: str, why: str) -> None:
        if not self._skip(mark):
            raise self._fault(f"{mark!r} is missing {why}")

    def _fault(self, what: str, cure: str = "") -> Exception:
        return fault(self.now.position, self.now.text, what, cure)

    # ---------------------------------------------------------------------------------------- the whole

    def query(self) -> Query:
        if self._stage_begins():
            return Query(None, self._stages(first=True))
        begins = self.now.kind == "end" or (self.now.kind == "mark" and self.now.text == "|")
        return Query(None if begins else self._condition(), self._stages())

    def _stage_begins(self) -> bool:
        return self.now.word in STAGES and self._ahead().kind != "operator" and self._ahead().word not in ("in", "not")

    def _stages(self, *, first: bool = False) -> tuple[Stage, ...]:
        found: list[Stage] = []
        while True:
            if first:
                first = False
            elif self.now.kind == "end":
                return tuple(found)
            elif not self._skip("|"):
                if self._stage_begins():
                    raise self._fault(f"{self.now.text} is a stage of its own", "Put | before it.")
                raise self._fault("the query should end here", "Join conditions with and or or, stages with |.")
            if len(found) == 20:
                raise self._fault("a query has at most 20 stages")
            found.append(self._stage())

    # ---------------------------------------------------------------------------------------- conditions

    def _condition(self) -> Condition:
        terms = [self._all()]
        while self._skip("or"):
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else Any(tuple(terms))

    def _all(self) -> Condition:
        terms = [self._term()]
        while self._skip("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _term(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._fault(f"this is nested more than {DEEPEST} deep", "Take parentheses away.")
        try:
            if self._skip("not"):
                return Not(self._term())
            if self._skip("("):
                inside = self._condition()
                self._must(")", "after this condition")
                return inside
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise self._fault(f"a query has at most {MOST_COMPARISONS} comparisons", "Use in (…), or --sql-file.")
        if self.now.word in ("under", "above") and self._ahead().kind == "word":
            return Place(self._take().word, self._value("an id like n12 or i34"))
        if self._stage_begins():
            raise self._fault(f"{self.now.text} is a stage, not a condition", f"Put | before {self.now.text}.")
        name = self._name("a condition like outcome = ok")
        if self._skip("in"):
            return Among(name, self._among())
        if self.now.word == "not" and self._ahead().word == "in":
            self._at += 2
            return Not(Among(name, self._among()))
        if self.now.kind != "operator":
            raise self._fault(
                f"a comparison is missing after {name.text}", "Write one of = != < <= > >= ~ or in, and a value."
            )
        return Compare(name, self._take().text, self._value(f"a value to compare {name.text} with"))

    def _among(self) -> tuple[Value, ...]:
        self._must("(", "after in")
        values = [self._value("a value")]
        while self._skip(","):
            values.append(self._value("a value"))
        self._must(")", "after the values of in")
        return tuple(values)

    def _name(self, wanted: str) -> Name:
        token = self.now
        if token.kind != "word" or token.word in RESERVED:
            raise self._fault(f"{wanted} was expected")
        self._take()
        return Name(token.text.lower(), token.position)

    def _names(self) -> tuple[Name, ...]:
        names = [self._name("the name of a field")]
        while self._skip(","):
            names.append(self._name("the name of a field"))
        if len(names) > 12:
            raise fault(names[12].position, names[12].text, "at most 12 fields may stand here")
        return tuple(names)

    def _value(self, wanted: str) -> Value:
        token = self.now
        self._values += 1
        if self._values > MOST_VALUES:
            raise self._fault(f"a query has at most {MOST_VALUES} values", "Use --sql-file for what is longer.")
        if token.kind not in ("word", "string") or (token.word in RESERVED and token.word != "none"):
            cure = "Put it in quotes." if token.word in RESERVED else ""
            raise self._fault(f"{wanted} was expected", cure)
        self._take()
        return Value(None if token.word == "none" else token.text, token.position)

    # -------------------------------------------------------------------------------------------- stages

    def _stage(self) -> Stage:
        token = self.now
        if token.word not in STAGES:
            raise self._fault("a stage was expected after |", nearest(token.text, STAGES))
        self._take()
        at = token.position
        match token.word:
            case "best":
                number = self._number() if self.now.word[:1].isdigit() else None
                figure = self._name("the name of a figure") if self._skip("by") else None
                return Stage("best", number, figure, self._names() if self._skip("per") else (), position=at)
            case "lost":
                self._must("on", "after lost")
                return Stage("lost", value=self._value("a device like H100"), position=at)
            case "stats":
                return Stage("stats", figure=self._name("the name of a figure"), names=self._by(), position=at)
            case "lineage":
                return Stage("lineage", position=at)
            case "repeated" if self.now.word != "by":
                raise self._fault("'by' is missing after repeated", "Write repeated by idea.")
            case word:
                return Stage(word, names=self._by(), position=at)

    def _by(self) -> tuple[Name, ...]:
        return self._names() if self._skip("by") else ()

    def _number(self) -> int:
        token = self.now
        if not (token.text.isascii() and token.text.isdigit() and 0 < len(token.text) < 10 and int(token.text)):
            raise self._fault("a whole number above 0 was expected")
        self._take()
        return int(token.text)
