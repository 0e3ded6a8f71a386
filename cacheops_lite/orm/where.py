"""The WHERE tree of a query as a disjunction of conjunctions over (alias, column) terms.

What is not understood says nothing (it widens). SQL has three truth values: a condition keeps a
row when it is *true*, so the tree is read by two questions, each answered with something at least
as wide: when can this node be true, and when can it be false (what NOT asks). A NULL makes neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.models import BooleanField
from django.db.models.expressions import Col, ColPairs
from django.db.models.fields.related_lookups import (
    RelatedExact,
    RelatedIn,
    RelatedIsNull,
    get_normalized_value,
)
from django.db.models.fields.tuple_lookups import TupleExact, TupleIn, TupleIsNull
from django.db.models.functions import TruncDate
from django.db.models.lookups import Exact, In, IntegerFieldExact, IsNull, Lookup
from django.db.models.sql.where import AND, OR, XOR, NothingNode, WhereNode

from ..core import dnf
from . import comparisons, ranges, unread, values

#: A column of one table in the query.
Key = tuple[str, str]
Condition = dnf.Dnf[Key]

#: The texts that a column of an enclosing query can have where its result is at stake.
Outer = dict[Key, frozenset[str]]

ANY: Final[Condition] = (frozenset(),)
NEVER: Final[Condition] = ()

# Exact types: a subclass may mean anything.
_EXACT: Final = (Exact, IntegerFieldExact, RelatedExact)
_IN: Final = (In, RelatedIn)
_IS_NULL: Final = (IsNull, RelatedIsNull)
_KNOWN: Final = frozenset(
    {*_EXACT, *_IN, *_IS_NULL, TupleExact, TupleIn, TupleIsNull, *comparisons.KNOWN}
)


class WhereReader:
    """Reads conditions of one query; ``tables`` maps its own aliases to table names."""

    def __init__(self, tables: Mapping[str, str], limit: int, outer: Outer | None = None) -> None:
        self.tables = tables
        self.limit = limit
        self.outer = outer or {}
        self.widened = unread.Notes(tables)

    def true(self, node: Any) -> Condition:
        """At least what must hold where ``node`` is true."""
        if type(node) is WhereNode:
            return self._node(node, negated=node.negated)
        return self._told(node, self._true, negated=False)

    def false(self, node: Any) -> Condition:
        """At least what must hold where ``node`` is false."""
        if type(node) is WhereNode:
            return self._node(node, negated=not node.negated)
        return self._told(node, self._false, negated=True)

    def _true(self, node: Any) -> Condition:
        cls = type(node)
        if cls is NothingNode:
            return NEVER
        if cls in _IS_NULL or cls is TupleIsNull:
            return self._is_null(node, wanted=True)
        if cls in comparisons.KNOWN and (cls not in _EXACT or type(node.lhs) is TruncDate):
            return ANY if _always(node) else self._compared(comparisons.true(node))
        if cls in _EXACT or cls is TupleExact:
            return self._exact(node)
        if cls in _IN or cls is TupleIn:
            return self._in(node)
        return ANY

    def _false(self, node: Any) -> Condition:
        cls = type(node)
        if cls in _IS_NULL:
            return self._is_null(node, wanted=False)
        if cls in _EXACT and isinstance(node.rhs, bool):
            if isinstance(node.lhs, (Lookup, WhereNode)):
                return (self.false if node.rhs else self.true)(node.lhs)
            # The only column type with one value besides the one denied.
            field = self._field(node.lhs)
            if isinstance(field, BooleanField):
                return self._equal(node.lhs, (not node.rhs,))
        if cls in comparisons.KNOWN:
            return self._compared(comparisons.false(node))
        return ANY

    def _node(self, node: WhereNode, *, negated: bool) -> Condition:
        read = self.false if negated else self.true
        if node.connector == XOR:
            # True needs an odd number of true children, so one at least. What is neither true
            # nor false counts as not true on some databases: nothing follows from "false".
            if not negated:
                return self._any(self.true, node.children)
            self.widened.add("not (… XOR …): says nothing of its parts")
            return ANY
        if node.connector not in (AND, OR):
            self.widened.add(f"{node.connector}: not understood")
            return ANY
        both = (node.connector == AND) != negated
        return (self._all if both else self._any)(read, node.children)

    def _all(self, read: Callable[[Any], Condition], nodes: Sequence[Any]) -> Condition:
        parts = list(map(read, nodes))
        found = dnf.conjoin(parts, self.limit)
        self.widened.lost(parts, found, self.limit)
        return found

    def _any(self, read: Callable[[Any], Condition], nodes: Sequence[Any]) -> Condition:
        # An empty node is no condition at all: Django leaves it out, whatever its connector.
        if not nodes:
            return ANY
        parts = list(map(read, nodes))
        if any(map(dnf.is_any, parts)):
            if not all(map(dnf.is_any, parts)):
                self.widened.add("OR with a condition that does not narrow: says nothing")
            return ANY
        found = dnf.disjoin(parts, self.limit)
        self.widened.lost(parts, found, self.limit)
        return found

    def _told(self, node: Any, read: Callable[[Any], Condition], *, negated: bool) -> Condition:
        """What ``read`` finds of a leaf; that it is nothing is noted."""
        noted = len(self.widened)
        found = read(node)
        if dnf.is_any(found) and len(self.widened) == noted:
            self.widened.leaf(node, known=type(node) in _KNOWN, negated=negated)
        return found

    def _exact(self, node: Any) -> Condition:
        if not _plain(node):
            return self._linked(node.lhs, node.rhs) if type(node) in _EXACT else ANY
        if isinstance(node.lhs, ColPairs):
            return self._tuples(node.lhs, [node.rhs])
        if isinstance(node.lhs, (Lookup, WhereNode)) and isinstance(node.rhs, bool):
            return (self.true if node.rhs else self.false)(node.lhs)
        return self._equal(node.lhs, (node.rhs,))

    def _in(self, node: Any) -> Condition:
        if not _plain(node):
            return ANY
        options = [value for value in node.rhs if value is not None]
        if isinstance(node.lhs, ColPairs):
            return self._tuples(node.lhs, options)
        return self._equal(node.lhs, options)

    def _linked(self, one: Any, other: Any) -> Condition:
        """A column of this query equal to one of an enclosing query."""
        for inner, outer in ((one, other), (other, one)):
            found = self.carried(inner, outer)
            if found is not None:
                return dnf.one_of(found[0], sorted(found[1] - {values.NULL}), self.limit)
        return ANY

    def carried(self, column: Any, outer: Any) -> tuple[Key, frozenset[str]] | None:
        """``column`` of this query, and the texts that one of an enclosing query can have."""
        field = self._field(column)
        if field is None or type(outer) is not Col or outer.alias in self.tables:
            return None
        target = outer.target
        if not values.usable(target) or values.kind(target) != values.kind(field):
            return None
        texts = self.outer.get((outer.alias, str(target.column)))
        return None if texts is None else ((column.alias, field.column), texts)

    def _equal(self, lhs: Any, options: Iterable[Any]) -> Condition:
        field = self._field(lhs)
        if field is None:
            return ANY
        texts: dict[str, None] = {}
        for value in options:
            # NULL on the right: "= NULL" is true for no row.
            if value is None:
                continue
            text = values.text(field, value, prepared=True)
            if text is None:
                return ANY
            texts[text] = None
            if len(texts) > self.limit:  # however many there are
                why = f"more than {self.limit} values of {field.column}"
                self.widened.add(why, lhs.alias)
                return ANY
        return dnf.one_of((lhs.alias, field.column), texts, self.limit)

    def _tuples(self, lhs: ColPairs, options: Iterable[Any]) -> Condition:
        columns = lhs.get_source_expressions()
        alternatives: list[Condition] = []
        for option in options:
            if type(lhs.output_field).__module__.startswith("django.db.models.fields.related"):
                option = get_normalized_value(option, lhs)
            if not isinstance(option, (tuple, list)) or len(option) != len(columns):
                return ANY
            alternatives.append(
                dnf.conjoin(
                    (
                        self._prepared(column, value)
                        for column, value in zip(columns, option, strict=True)
                    ),
                    self.limit,
                )
            )
        return dnf.disjoin(alternatives, self.limit)

    def _prepared(self, column: Any, value: Any) -> Condition:
        field = self._field(column)
        if field is None or hasattr(value, "resolve_expression"):
            return ANY
        if value is None:
            return NEVER
        # Lookups of several columns hand their values over as the user gave them.
        text = values.text(field, value)
        return ANY if text is None else (frozenset((((column.alias, field.column), text),)),)

    def _is_null(self, node: Any, *, wanted: bool) -> Condition:
        if not isinstance(node.rhs, bool) or node.rhs is not wanted:
            return ANY
        field = self._field(node.lhs)
        if field is None:
            return ANY
        return (frozenset((((node.lhs.alias, field.column), values.NULL),)),)

    def _compared(self, options: comparisons.Options) -> Condition:
        """One of some intervals of a column, each a pair of limits."""
        return self._any(self._interval, options) if options is not None else ANY

    def _interval(self, interval: comparisons.Interval) -> Condition:
        terms: list[tuple[Key, str]] = []
        for lhs, operator, value in interval:
            field = self._field(lhs)
            column = ranges.condition(field, operator, value) if field is not None else None
            if column is not None:
                terms.append(((lhs.alias, column), ranges.TRUE))
        return (frozenset(terms),)

    def _field(self, lhs: Any) -> Any:
        """The field of a column of this query that may be a term, or None."""
        if type(lhs) is not Col or lhs.alias not in self.tables:
            return None
        field = lhs.target
        table = self.tables[lhs.alias]
        if getattr(field, "column", None) is None or field.model._meta.db_table != table:
            return None
        return field if values.usable(field) else None


def _always(node: Any) -> bool:
    """Whether the limit may lie beyond the column, where Django leaves the condition out.

    Then NULLs pass too, which no comparison lets through.
    """
    field = getattr(node.lhs, "output_field", None)
    if field is None or not isinstance(node.rhs, int):
        return False
    kind = field.get_internal_type()
    low, high = BaseDatabaseOperations.integer_field_ranges.get(kind, (node.rhs, node.rhs))
    return not low <= node.rhs <= high


def _plain(node: Any) -> bool:
    """Whether the right-hand side holds values only, compared as they are."""
    rhs = node.rhs
    if getattr(node, "bilateral_transforms", None) or hasattr(rhs, "resolve_expression"):
        return False
    if hasattr(rhs, "as_sql"):
        return False
    if isinstance(rhs, (list, tuple)):
        return not any(hasattr(value, "resolve_expression") for value in rhs)
    return type(node) not in _IN or isinstance(rhs, Iterable)
