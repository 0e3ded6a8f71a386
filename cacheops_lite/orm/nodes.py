"""A node: the query that some steps of a queryset lead to, kept to be copied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from django.db.models.expressions import BaseExpression, Col
from django.db.models.lookups import Lookup, UUIDTextMixin
from django.db.models.sql.query import Query
from django.db.models.sql.where import WhereNode

from . import steady, walk

_serials = count(1)
#: Not narrowed by type checkers: the stubs know less of it than we use.
_COL: Any = Col


def lasting(query: Any) -> bool:
    """Whether the steps to a query may be left out the next time, and compiling it changes nothing.

    A text lookup of a UUID wraps its value once more each time where UUIDs are kept as texts.
    """
    return steady.query(query) and not any(
        isinstance(one, UUIDTextMixin) or steady.warned(one.rhs) for one in _lookups(query)
    )


def _lookups(query: Any) -> Iterator[Any]:
    for one in walk.nodes([query.where, *query.annotations.values()]):
        if isinstance(one, Query):
            yield from _lookups(one)
        elif hasattr(one, "process_rhs"):
            yield one


class Node:
    """The query after some steps; it never leaves this package, its clones do."""

    __slots__ = ("bound", "chains", "fields", "iterable", "query", "root", "serial", "twin")

    def __init__(self, query: Any, iterable: Any, fields: Any) -> None:
        self.serial = next(_serials)
        self.query = query
        self.iterable = iterable
        self.fields = fields
        #: Whether no step was taken: what a plain manager gives.
        self.root = False
        #: Whether a queryset here is a copy of one that took the steps.
        self.chains = False
        self.twin: Node | None = None
        self.bound: Node | None = None

    def copied(self) -> Node:
        """Where a copy of a queryset of this node is: the same steps."""
        if self.chains:
            return self
        if self.twin is None:
            twin = Node(self.query, self.iterable, self.fields)
            twin.root, twin.chains = self.root, True
            if not self.query.filter_is_sticky:  # else the next step differs, too
                twin.serial = self.serial
            self.twin = twin
        return self.twin

    def sticky(self) -> Node:
        """Where a copy is whose next two filters may share a join (a related manager's)."""
        if self.bound is None:
            query = self.query.chain()
            query.filter_is_sticky = True
            self.bound = Node(query, self.iterable, self.fields)
        return self.bound

    def build(self) -> Any:
        """A query as the steps would have left it."""
        if self.root:
            return Query(self.query.model)
        query = self.query.chain() if self.chains else self.query.clone()
        _part(query)
        return query


# -- what a query that leaves this package is made of --------------------------------------------


def _part(query: Any) -> None:
    """Have a clone share no lookup and no annotation: somebody may change them in place."""
    query.where.children = [_copied(child) for child in query.where.children]
    if query.annotations:
        query.annotations = {name: _copied(one) for name, one in query.annotations.items()}


def _copied(node: Any) -> Any:
    kind = type(node)
    made: Any
    if kind is _COL or node is None:  # most of what lookups compare, and no part of another is
        return node
    if kind is WhereNode:
        made = WhereNode([_copied(child) for child in node.children], node.connector, node.negated)
        made.resolved = node.resolved
        return made
    if isinstance(node, Query):
        made = node.clone()
        _part(made)
        return made
    if not isinstance(node, BaseExpression):
        return node
    if isinstance(node, Lookup) and type(node.lhs) is _COL:  # without asking what it is made of
        made = object.__new__(kind)
        made.__dict__.update(node.__dict__)
        made.rhs = node.rhs[:] if type(node.rhs) is list else _copied(node.rhs)
        return made
    getattr(node, "identity", None)  # costly to find out; known to all copies from here on
    made = node.copy()
    sources = made.get_source_expressions()
    copies = [_copied(source) for source in sources]
    if any(copy is not source for copy, source in zip(copies, sources, strict=True)):
        made.set_source_expressions(copies)
    if type(getattr(made, "rhs", None)) is list:
        made.rhs = made.rhs[:]
    return made
