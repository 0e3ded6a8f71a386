"""Reading the rows that a write touches: their schemes' columns by primary key, under a lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import DataError
from django.db.models import F, TextField
from django.db.models.functions import Cast
from django.db.models.sql.constants import MULTI
from django.db.models.sql.query import Query

from .. import conf
from ..core.memo import Recent
from . import predicates, unconverted, values
from .matching import is_plain_key, key_of, same_rows_again, single_table
from .pending import open_transaction, pending
from .ranges import Row
from .rows import Converted, converted, to_convert


class Lookup:
    """Looks rows of one table up; every answer is ``{pk: row}``, or ``None`` past the limit."""

    def __init__(self, model: Any, connection: Any, fields: Mapping[str, Any]) -> None:
        self.model = model
        self.connection = connection
        self.fields = dict(fields)
        self.predicates = predicates.of(fields)
        self.limit = conf.current().lookup_limit
        #: Whether rows cannot be found again by the keys that are read: what is stored is another.
        self.keys_differ = any(map(values.converts, model._meta.pk_fields))
        #: Whether the database was asked: a key may tell all that is wanted of its row.
        self.looked = False

    def matching(self, query: Any, *, changes_keys: bool) -> dict[Any, Row] | None:
        """The rows that an UPDATE or DELETE ``query`` is about to touch, locked.

        Where the conditions read other tables too, or give another answer each time, equal counts
        before and after prove nothing (trap A5): then the statement is narrowed to the rows
        found. On SQLite nobody else can write meanwhile.
        """
        if query.is_empty():
            self.looked = True  # nobody will be asked
            return {}
        key = key_of(query, self.model)
        if key is not None:
            return self._by_key(key, changes_keys=changes_keys)
        plain = query.chain(klass=Query)
        plain.select_related = False
        plain.clear_ordering(force=True)
        plain.get_initial_alias()
        sure = same_rows_again(plain)
        if sure and single_table(plain):
            return self._run(plain, lock=True, changes_keys=changes_keys)
        narrowing = not (sure and self.connection.vendor == "sqlite")
        if narrowing and self.keys_differ:
            return None
        inner = plain
        inner.clear_select_clause()
        inner.distinct = False
        inner.add_fields([self.model._meta.pk.name])
        outer: Any = Query(self.model)
        outer.add_filter("pk__in", inner)
        found = self._run(outer, lock=True, changes_keys=changes_keys)
        if found is not None and narrowing:
            query.clear_where()
            query.add_filter("pk__in", list(found))
        return found

    def by_pks(self, pks: Sequence[Any]) -> dict[Any, Row] | None:
        """Rows by primary key, after the statement (which holds their locks by now)."""
        if not pks:
            return {}
        if self.keys_differ:
            return None
        if len(pks) == 1 and is_plain_key(self.model._meta.pk, pks[0]):
            read = self.statement(pks[0], lock="")
            return self.rows_of(read, lambda: self._found(read, pks[0]))
        query: Any = Query(self.model)
        query.add_filter("pk__in", list(pks))
        return self._run(query, lock=False, changes_keys=False)

    def _by_key(self, key: Any, *, changes_keys: bool) -> dict[Any, Row] | None:
        """The one row that a statement names by its primary key."""
        known = self.knows(key)
        if known is not None:
            return known
        read = self.statement(key, lock=lock_kind(self.connection, changes_keys))
        if self.connection.vendor == "sqlite":
            self._take_write_lock()
        return self.rows_of(read, lambda: self._found(read, key))

    def knows(self, key: Any) -> dict[Any, Row] | None:
        """The row of a key where nothing need be read: the key is all that the schemes ask for.

        Whether there is such a row says the statement.
        """
        pk = self.model._meta.pk
        if self.predicates or not self.fields.keys() <= {pk.column}:
            return None
        text = values.text(pk, key)
        if text is None:
            return None
        return {key: Row(self.fields, {pk.column: text} if self.fields else {})}

    def statement(self, key: Any, *, lock: str) -> Statement:
        """What reads the row of a key, and locks it for what `lock_kind` says (``""``: not)."""
        place = (self.model, self.connection.alias, tuple(self.fields), self.predicates, lock)
        known = _statements.get(place)
        if known is None:
            query: Any = Query(self.model)
            query.add_filter("pk", key)
            self._select(query)
            texts = self._add_texts(query) if self.connection.vendor == "sqlite" else {}
            if lock:
                self._lock(query, changes_keys=lock == "key")
            known = _statement(query.get_compiler(self.connection.alias), texts)
            _statements.set(place, known)
        return known

    def _found(self, read: Statement, key: Any) -> list[tuple[Any, ...]]:
        self.looked = True
        with self.connection.cursor() as cursor:
            value = self.model._meta.pk.get_db_prep_value(key, self.connection, prepared=True)
            cursor.execute(read.sql, (value,))
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def rows_of(
        self, read: Statement, fetch: Callable[[], Iterable[Sequence[Any]]]
    ) -> dict[Any, Row] | None:
        """The rows that ``fetch()`` gives of a statement; ``None`` if one has no form in Python."""
        rows = self._unless_formless(
            lambda: (converted(row, read.converted, self.connection) for row in fetch())
        )
        return None if rows is None else {row[0]: self._row(row, read.texts) for row in rows}

    def _select(self, query: Any) -> None:
        """Ask for the primary key, then for the fields."""
        query.clear_select_clause()
        query.distinct = False
        query.add_fields([field.attname for field in self.selected()])
        unconverted.select(query)

    def selected(self) -> list[Any]:
        """The fields that are asked for: the primary key's first."""
        pk_fields = self.model._meta.pk_fields
        asked: Any = self.fields.values()
        if self.predicates:
            asked = self.model._meta.local_concrete_fields  # they are asked about whole objects
        return [*pk_fields, *(field for field in asked if field not in pk_fields)]

    def _row(self, row: Sequence[Any], texts: Mapping[str, int]) -> Row:
        selected = self.selected()
        known = {
            field.column: text
            for field, value in zip(selected, row, strict=False)
            if field.column in self.fields
            and (text := values.text(field, value, prepared=True)) is not None
            and (field.column not in texts or _kept_as(text, row[texts[field.column]]))
        }
        if self.predicates:
            given = {field.attname: value for field, value in zip(selected, row, strict=False)}
            known |= predicates.answers(self.model, self.predicates, self.connection, given)
        return Row(self.fields, known)

    def _run(self, query: Any, *, lock: bool, changes_keys: bool) -> dict[Any, Row] | None:
        keys = len(self.model._meta.pk_fields)
        self._select(query)
        query.set_limits(high=self.limit + 1)
        texts = self._add_texts(query) if self.connection.vendor == "sqlite" else {}
        if lock:
            self._lock(query, changes_keys)
        asked = self._ask(query)
        if asked is None or len(asked) > self.limit:
            return None
        found: dict[Any, Row] = {}
        for row in asked:
            found[row[0] if keys == 1 else tuple(row[:keys])] = self._row(row, texts)
        return found

    def _add_texts(self, query: Any) -> dict[str, int]:
        """Also ask for some columns as SQLite keeps them: column -> place in the rows.

        An expression puts into a column of SQLite what it likes: 1.5 into one of integers, a
        moment into one of dates. Fields read the nearest that they know, comparisons do not.
        """
        found: dict[str, int] = {}
        for name, field in self.fields.items():
            if values.kind(field) in _LOOSE:
                found[name] = len(query.select) + len(found)
                text = Cast(F(field.attname), TextField())
                query.add_annotation(text, f"cacheops_text_{len(found)}")
        return found

    def _ask(self, query: Any) -> list[Any] | None:
        self.looked = True
        compiler = query.get_compiler(self.connection.alias)
        return self._unless_formless(
            lambda: compiler.results_iter(list(compiler.execute_sql(MULTI)))
        )

    def _unless_formless(self, ask: Callable[[], Iterable[Any]]) -> list[Any] | None:
        """The rows, or ``None`` where a value has no form in Python.

        ``ask`` runs the statement and gives what converts its rows. The statement may well go
        through all the same: it must not fail for being looked at.
        """
        try:
            stored = ask()
        except DataError:
            if self.connection.vendor == "postgresql" and self._transaction_failed():
                raise
            return None
        try:
            return list(stored)
        except Exception:
            return None

    def _transaction_failed(self) -> bool:
        return int(self.connection.connection.info.transaction_status) == 3

    def _lock(self, query: Any, changes_keys: bool) -> None:
        features = self.connection.features
        if self.connection.vendor == "sqlite":
            self._take_write_lock()
        elif features.has_select_for_update:
            # In one order, so that two writers of the same rows cannot wait for each other.
            query.add_ordering(*(field.attname for field in self.model._meta.pk_fields))
            query.select_for_update = True
            query.select_for_no_key_update = (
                features.has_select_for_no_key_update and not changes_keys
            )

    def _take_write_lock(self) -> None:
        """SQLite: become the writer before reading, else waiting turns into "database is locked".

        A deferred transaction that has read cannot become a writer after another one committed.
        """
        state = pending(self.connection)
        if state.write_locked or not open_transaction(self.connection):
            return
        meta = self.model._meta
        quote = self.connection.ops.quote_name
        column = quote(meta.pk_fields[0].column)
        with self.connection.wrap_database_errors:
            self.connection.connection.execute(
                f"UPDATE {quote(meta.db_table)} SET {column} = {column} WHERE 0"
            )
        state.write_locked = True


#: Kinds of which SQLite may keep something else than the field shows.
_LOOSE = frozenset({"int", "duration", "date", "datetime", "time"})


def _kept_as(text: str, kept: str | None) -> bool:
    return text == kept if kept is not None else text == values.NULL


class Statement(NamedTuple):
    """A SELECT of one row by its key, compiled, and which of its columns are converted."""

    sql: str
    converted: tuple[Converted, ...]
    #: Where the columns stand as SQLite keeps them.
    texts: Mapping[str, int]


#: (model, alias, columns, predicates, lock) -> the statement that reads them.
_statements: Recent[tuple[Any, ...], Statement] = Recent(512)
conf.on_reset(_statements.clear)


def _statement(compiler: Any, texts: Mapping[str, int]) -> Statement:
    sql, _ = compiler.as_sql()
    return Statement(sql, to_convert(compiler, [column[0] for column in compiler.select]), texts)


def lock_kind(connection: Any, changes_keys: bool) -> str:
    """How the row of a statement is locked that may change what foreign keys refer to."""
    return "sqlite" if connection.vendor == "sqlite" else "key" if changes_keys else "row"
