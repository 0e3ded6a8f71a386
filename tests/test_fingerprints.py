"""Fingerprints: results that hold while the data does, whoever changes it, on each database."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db import NotSupportedError, connection, connections, models, transaction
from django.db.models import Count, F
from django.db.models.functions import Length
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from cacheops_lite import (
    Fingerprinted,
    Newest,
    RowHash,
    cached_as,
    cached_by,
    invalidate_tag,
    request_scope,
)
from cacheops_lite.functions.fingerprints import Fingerprint
from cacheops_lite.orm import row_hash

from .behind import copy_column, execute
from .models import Attachment, Author, Box, Document, OrderLine, Post, Restaurant, Station, Tag
from .test_functions import category, counting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def station(name: str = "a", **values: Any) -> Station:
    return Station.objects.create(name=name, **values)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


# -- what is seen ----------------------------------------------------------------------------------


def _posts() -> list[models.Model]:
    def post(number: int) -> Post:
        author = Author.objects.create(name=f"a{number}")
        moment = datetime.datetime(2024, 1, number, number, tzinfo=datetime.UTC)
        return Post.objects.create(
            category=category(), author=author, editor=author if number == 2 else None,
            title=f"t{number}", text="long " * number, published=number == 2, status=f"s{number}",
            views=number, score=0.1 + number * 1e-12, rating=Decimal(number) / 100,
            created=moment, day=moment.date(), at=moment.time(),
            duration=datetime.timedelta(microseconds=number),
        )  # fmt: skip

    return [post(1), post(2)]


def _documents() -> list[models.Model]:
    return [
        Document.objects.create(name="", data={"a": [1, None]}),
        Document.objects.create(name="x", data={"a": [1, "None"]}),
    ]


def _attachments() -> list[models.Model]:
    return [
        Attachment.objects.create(file="a", ip="127.0.0.1", payload=b"\x00\xff", flag=None),
        Attachment.objects.create(file="b", ip="::1", payload=b"\x00\xfe", flag=False),
    ]


def _boxes() -> list[models.Model]:
    return [Box.objects.create(width=1, height=2, name="a"), Box.objects.create(width=3, height=4)]


@pytest.mark.parametrize("make", [_posts, _documents, _attachments, _boxes])
def test_every_column(make: Callable[[], list[models.Model]]) -> None:
    """An update of any one column, of whatever type, is noticed at the next question."""
    rows = make()
    model = type(rows[0])
    function = counting(cached_by(RowHash(model, every=0)))
    columns = [
        field.column
        for field in model._meta.concrete_fields
        if not field.primary_key and not field.generated
    ]
    for column in columns:
        before = function()
        assert function() == before
        copy_column(model, column, to=rows[0].pk, source=rows[1].pk)
        assert function() == before + 1, f"a change of {column} went unseen"
        assert function() == before + 1


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO tests_tag (name, {group}) VALUES ('c', '')",
        "DELETE FROM tests_tag WHERE name = 'b'",
        "DELETE FROM tests_tag",
        "UPDATE tests_tag SET id = id + 1000 WHERE name = 'b'",
        "UPDATE tests_tag SET name = 'c' WHERE name = 'b'",
        "UPDATE tests_tag SET name = CASE name WHEN 'a' THEN 'b' ELSE 'a' END",
    ],
)
def test_every_kind_of_change(change: str) -> None:
    """Inserts, deletes, other keys, values that two rows exchange: all behind Django's back."""
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    function = counting(cached_by(RowHash(Tag, every=0)))
    assert [function(), function()] == [1, 1]
    execute(change.format(group=connection.ops.quote_name("group")))
    assert [function(), function()] == [2, 2]


def test_texts_that_run_into_each_other() -> None:
    """Where one column ends and the next begins counts, and so does what is missing."""
    if connection.features.interprets_empty_strings_as_nulls:
        pytest.fail("this database is not known here")
    tag = Tag.objects.create(name="ab", group="c")
    seen = {RowHash(Tag, every=0).text()}
    for name, group in [("a", "bc"), ("abc", ""), ("", "abc"), ("a,b", "c"), ("a", "b,c")]:
        execute(
            f"UPDATE tests_tag SET name = '{name}', {connection.ops.quote_name('group')} = '{group}'"
            f" WHERE id = {tag.pk}"
        )
        seen.add(RowHash(Tag, every=0).text())
    document = Document.objects.create(data=None, name="")
    assert len(seen) == 6
    empty = RowHash(Document, ["data"], every=0).text()
    copied = Document.objects.create(data="", name="")
    copy_column(Document, "data", to=document.pk, source=copied.pk)
    Document.objects.filter(pk=copied.pk).delete()
    assert RowHash(Document, ["data"], every=0).text() != empty


def test_long_texts() -> None:
    """The last letter of a long text counts as much as the first."""
    post = _posts()[0]
    long = "x" * 1_000_000
    execute(f"UPDATE tests_post SET text = '{long}' WHERE id = {post.pk}")
    before = RowHash(Post, every=0).text()
    execute(f"UPDATE tests_post SET text = '{long[:-1]}y' WHERE id = {post.pk}")
    assert RowHash(Post, every=0).text() != before


def test_equal_rows_do_not_cancel_out() -> None:
    """Two equal rows are not none, nor three one."""
    texts = set()
    for _ in range(5):
        texts.add(RowHash(Tag.objects.values("name"), every=0).text())
        execute(
            f"INSERT INTO tests_tag (name, {connection.ops.quote_name('group')}) VALUES ('a', '')"
        )
    assert len(texts) == 5


def test_chosen_columns() -> None:
    """With `fields` other columns make no difference; they may be of related rows."""
    one = station("a", height=1.0)
    by_name = RowHash(Station, ["id", "name"], every=0)
    before = by_name.text()
    execute(f"UPDATE tests_station SET height = 2 WHERE id = {one.pk}")
    assert by_name.text() == before
    execute(f"UPDATE tests_station SET name = 'b' WHERE id = {one.pk}")
    assert by_name.text() != before
    _posts()
    related = RowHash(Post.objects.filter(views=1), ["author__name"], every=0)
    before = related.text()
    execute("UPDATE tests_author SET name = 'new' WHERE name = 'a1'")
    assert related.text() != before


@pytest.mark.parametrize(
    ("rows", "seen", "unseen"),
    [
        (lambda: Tag.objects.filter(name="a"), "name = 'z' WHERE name = 'a'", "name = 'z' WHERE name = 'b'"),
        (lambda: Tag.objects.order_by("name")[:1], "name = 'A' WHERE name = 'a'", "name = 'z' WHERE name = 'c'"),
        (lambda: Tag.objects.values_list("name").distinct(), "name = 'z' WHERE name = 'a'", "id = id + 1000"),
        (lambda: Tag.objects.annotate(size=Length("name")).values("size").order_by(), "name = 'aa' WHERE name = 'a'", "name = 'z' WHERE name = 'a'"),
        (lambda: Tag.objects.values("group").annotate(n=Count("id")).order_by("group"), "{group} = 'new' WHERE name = 'a'", "name = 'z' WHERE name = 'a'"),
        (lambda: Tag.objects.filter(name="a").order_by().union(Tag.objects.filter(name="b").order_by()), "name = 'z' WHERE name = 'a'", "name = 'z' WHERE name = 'c'"),
        (lambda: Tag.objects.exclude(name="a").only("id"), "id = id + 1000 WHERE name = 'b'", "{group} = 'new' WHERE name = 'a'"),
        (lambda: Tag.objects.values("id").order_by("group"), "{group} = 'new' WHERE name = 'a'", "name = 'z' WHERE name = 'a'"),
        (lambda: Tag.objects.extra(select={"double": "id * 2"}).values("double").order_by(), "id = id + 1000", "name = 'z' WHERE name = 'a'"),
    ],
)  # fmt: skip
def test_querysets(rows: Callable[[], Any], seen: str, unseen: str) -> None:
    """A fingerprint of a queryset sees what the queryset selects and is ordered by, no more."""
    for name in "abc":
        Tag.objects.create(name=name)
    group = connection.ops.quote_name("group")
    print_of = RowHash(rows(), every=0)
    before = print_of.text()
    assert print_of.text() == before
    execute(f"UPDATE tests_tag SET {unseen.format(group=group)}")
    assert print_of.text() == before
    Tag.objects.all().delete()
    for name in "abc":
        Tag.objects.create(name=name)
    before = print_of.text()
    execute(f"UPDATE tests_tag SET {seen.format(group=group)}")
    assert print_of.text() != before


def test_related_rows() -> None:
    """What `select_related` brings along is part of it, and so are parents' tables and orders that
    related rows decide."""
    _posts()
    joined = RowHash(Post.objects.select_related("author"), every=0)
    ordered = RowHash(Post.objects.order_by("author__name"), every=0)
    alone = RowHash(Post, every=0)
    before = [joined.text(), ordered.text(), alone.text()]
    execute("UPDATE tests_author SET name = 'z' WHERE name = 'a1'")
    after = [joined.text(), ordered.text(), alone.text()]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    Restaurant.objects.create(name="r", stars=1)
    child = RowHash(Restaurant, every=0)
    before_child = child.text()
    execute("UPDATE tests_place SET name = 'q'")
    assert child.text() != before_child


def test_composite_keys_and_empty_querysets() -> None:
    """Keys of several columns are columns like others; of no rows there is a fingerprint too."""
    OrderLine.objects.create(order=1, line=1)
    lines = RowHash(OrderLine, every=0)
    before = lines.text()
    execute("UPDATE tests_orderline SET line = 2")
    assert lines.text() != before
    assert (
        RowHash(Tag.objects.none(), every=0).text() == RowHash(Tag.objects.none(), every=0).text()
    )
    assert Newest(Station.objects.none(), every=0).text()
    keys = RowHash(OrderLine.objects.values("order", "line"), every=0)
    before = keys.text()
    execute("UPDATE tests_orderline SET line = 3")
    assert keys.text() != before
    with pytest.raises(ValueError, match="name its fields"):
        RowHash(OrderLine.objects.values("pk"), every=0).text()


def test_many_columns() -> None:
    """More columns than a function may take arguments."""
    station("a", height=1.0)
    wide = {f"c{number}": F("height") + number for number in range(200)}
    rows = RowHash(Station.objects.annotate(**wide), every=0)
    before = rows.text()
    assert rows.text() == before
    execute("UPDATE tests_station SET height = 2")
    assert rows.text() != before


# -- what it costs, and when it is asked -----------------------------------------------------------


def test_one_small_query(django_assert_num_queries: Any) -> None:
    """A question is one SELECT that returns one row; within the period it is not even asked."""
    station()
    always = counting(cached_by(RowHash(Station, every=0)))
    always()
    with django_assert_num_queries(1) as asked:
        assert always() == 1
    assert asked.captured_queries[0]["sql"].startswith("SELECT COUNT(*)")
    sometimes = counting(cached_by(RowHash(Station, every=3600), extra="sometimes"))
    sometimes()
    with django_assert_num_queries(0):
        assert [sometimes(), sometimes()] == [1, 1]


@pytest.mark.parametrize("kind", [RowHash, Newest])
def test_the_period(kind: Any, django_assert_num_queries: Any) -> None:
    """A change is noticed at the first call after the period, and until then nothing is asked."""
    clock = Clock()
    one = station()
    function = counting(cached_by(kind(Station, every=60, clock=clock)))
    assert function() == 1
    execute(f"DELETE FROM tests_station WHERE id = {one.pk}")
    clock.now += 59
    with django_assert_num_queries(0):
        assert function() == 1
    clock.now += 2
    assert [function(), function()] == [2, 2]


def test_the_period_counts_from_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that takes long does not prolong the period."""
    clock = Clock()
    one = station()
    asked = RowHash(Station, every=60, clock=clock)
    function = counting(cached_by(asked))
    original = row_hash.run

    def slow(*args: Any) -> Any:
        answer = original(*args)
        clock.now += 50
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(row_hash, "run", slow)
        asked.text()  # begun at 0, published at 50
    execute(f"UPDATE tests_station SET name = 'b' WHERE id = {one.pk}")
    before = asked.text()
    clock.now += 11
    assert asked.text() != before
    assert function() == 1


def test_in_real_time() -> None:
    """The same by the clocks of this machine and of the server."""
    station()
    function = counting(cached_by(RowHash(Station, every=0.3)))
    assert function() == 1
    execute("UPDATE tests_station SET height = 5")
    deadline = time.monotonic() + 20
    while function() == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert function() == 2


def test_what_django_writes_is_noticed_at_once() -> None:
    """Writes that tell of themselves do not wait for the end of the period."""
    one = station()
    function = counting(cached_by(RowHash(Station, every=3600)))
    assert [function(), function()] == [1, 1]
    one.name = "b"
    one.save()
    assert [function(), function()] == [2, 2]
    Tag.objects.create(name="t")
    assert function() == 2
    one.save()  # the same again: asked, and nothing but the time of saving has moved
    by_name = counting(cached_by(RowHash(Station, ["name"], every=3600), extra="name"))
    assert by_name() == 1
    one.save()
    assert by_name() == 1


def test_the_cheap_one_first(django_assert_num_queries: Any) -> None:
    """`first` is asked instead, as long as it holds; only when it moves the other one is."""
    clock = Clock()
    one = station()
    rows = Station.objects.filter(name__startswith="a")
    asked = RowHash(rows, every=10, first=Newest(Station), clock=clock)
    function = counting(cached_by(asked))
    assert function() == 1

    def statements() -> list[str]:
        clock.now += 11
        with CaptureQueriesContext(connection) as seen:
            function()
        return [query["sql"] for query in seen.captured_queries]

    (cheap,) = statements()
    assert "MAX(" in cheap
    assert "hash" not in cheap.lower()
    execute(f"UPDATE tests_station SET height = 2 WHERE id = {one.pk}")
    assert len(statements()) == 1  # the stamp was left alone, so nothing was seen
    assert function() == 1
    execute(f"UPDATE tests_station SET changed = '2999-01-01 00:00:00' WHERE id = {one.pk}")
    assert len(statements()) > 1
    assert function() == 2
    (cheap,) = statements()
    execute(
        "INSERT INTO tests_station (name, height, changed) VALUES ('z', 0, '2001-01-01 00:00:00')"
    )
    statements()
    assert function() == 2  # the table has moved, these rows have not
    assert len(statements()) == 1


def test_newest() -> None:
    """The newest stamp and the number of rows; `auto_now` names the column by itself."""
    one = station()
    newest = Newest(Station, every=0)
    before = newest.text()
    execute(f"UPDATE tests_station SET changed = '2999-01-01 00:00:00' WHERE id = {one.pk}")
    moved = newest.text()
    assert moved != before
    execute(
        "INSERT INTO tests_station (name, height, changed) VALUES ('z', 0, '2001-01-01 00:00:00')"
    )
    assert newest.text() != moved
    assert Newest(Station.objects.filter(name="z"), "changed", every=0).text() != newest.text()
    with pytest.raises(ValueError, match="no field with auto_now"):
        Newest(Tag, every=0).text()
    with pytest.raises(FieldError):
        Newest(Tag, "nothing", every=0).text()


# -- what is stored --------------------------------------------------------------------------------


def test_changes_during_the_computation() -> None:
    """A result whose data changed while it was computed is returned once and not kept."""
    one = station()
    calls = 0

    @cached_by(RowHash(Station, every=3600))
    def heights() -> list[float]:
        nonlocal calls
        calls += 1
        found = [row.height for row in Station.objects.all()]
        if calls == 1:
            execute(f"UPDATE tests_station SET height = 7 WHERE id = {one.pk}")
        return found

    assert heights() == [0.0]
    assert [heights(), heights()] == [[7.0], [7.0]]
    assert calls == 2


def test_there_and_back() -> None:
    """A state that comes back is answered with what was of that state, not of one between."""
    clock = Clock()
    one = station()
    asked = RowHash(Station, every=60, clock=clock)

    @cached_by(asked)
    def heights() -> list[float]:
        return [row.height for row in Station.objects.all()]

    asked.text()  # published while the height is 0
    execute(f"UPDATE tests_station SET height = 7 WHERE id = {one.pk}")
    assert heights() == [7.0]
    execute(f"UPDATE tests_station SET height = 0 WHERE id = {one.pk}")
    clock.now += 61
    assert heights() == [0.0]


def test_cached_rows_are_not_what_results_are_made_of() -> None:
    """Queries and functions that are cached by events are passed by while the result is computed:
    no event told of the change."""
    station("a")
    names = cached_as(Station)(lambda: [row.name for row in Station.objects.cache()])

    @cached_by(RowHash(Station, every=0))
    def function() -> list[Any]:
        rows = Station.objects.cache()
        return [[row.name for row in rows], rows.get().name, rows.filter(name="a").count(), names()]

    for _ in range(2):
        assert [row.name for row in Station.objects.cache()] == ["a"]
        assert Station.objects.cache().filter(name="a").count() == 1
        assert names() == ["a"]
        assert function() == [["a"], "a", 1, ["a"]]
    execute("UPDATE tests_station SET name = 'b'")
    assert function() == [["b"], "b", 0, ["b"]]
    assert names() == ["a"]  # which nobody has told


def test_several_fingerprints() -> None:
    """A result hangs on each of them."""
    station()
    function = counting(cached_by(RowHash(Station, every=0), RowHash(Tag, every=0)))
    assert [function(), function()] == [1, 1]
    execute("UPDATE tests_station SET name = 'b'")
    assert [function(), function()] == [2, 2]
    execute(f"INSERT INTO tests_tag (name, {connection.ops.quote_name('group')}) VALUES ('c', '')")
    assert [function(), function()] == [3, 3]


def test_options() -> None:
    """Arguments, tags, invalidation and keys work as with `cached`."""
    function = counting(cached_by(RowHash(Station, every=0), tags="t", extra="options"))
    assert [function(1), function(2), function(1)] == [1, 2, 1]
    function.invalidate(1)
    assert [function(1), function(2)] == [3, 2]
    invalidate_tag("t")
    assert [function(1), function(2)] == [4, 5]
    assert function.key(1).get() == 4
    function.key(1).set(100)
    assert [function(1), function.key(1).get()] == [100, 100]
    assert function(1, _refresh=True) == 6
    with override_settings(CACHEOPS_ENABLED=False):
        assert function(1) == 7


def stations_after_a_rollback() -> Callable[[], list[str]]:
    """A cached function, and what it says in a transaction that is rolled back, and after it."""
    station("a")
    function = cached_by(RowHash(Station, every=3600))(
        lambda: sorted(row.name for row in Station.objects.all())
    )
    assert function() == ["a"]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        station("b")
        assert function() == ["a", "b"]
        1 / 0  # noqa: B018
    assert function() == ["a"]
    return function


def test_transactions() -> None:
    """A transaction that wrote the table computes for itself; a rollback leaves nothing behind."""
    function = stations_after_a_rollback()
    with transaction.atomic():
        station("c")
        assert function() == ["a", "c"]
    assert function() == ["a", "c"]


@override_settings(CACHEOPS={"tests.station": None, "*.*": {"timeout": 60}})
def test_tables_that_are_not_tracked() -> None:
    """They may have a fingerprint too; in a transaction, whose writes nobody knows, it is not
    kept."""
    stations_after_a_rollback()


@override_settings(CACHEOPS={})
def test_without_any_profile() -> None:
    """A project that caches nothing else can go by fingerprints."""
    station("a")
    function = counting(cached_by(RowHash(Station, every=0)))
    assert [function(), function()] == [1, 1]
    execute("UPDATE tests_station SET name = 'b'")
    assert [function(), function()] == [2, 2]


def test_request_scope() -> None:
    """Within a request the fingerprint is asked once, and the result stays the same."""
    station("a")
    function = counting(cached_by(RowHash(Station, every=0.001)))
    with request_scope():
        assert function() == 1
        execute("UPDATE tests_station SET name = 'b'")
        time.sleep(0.01)
        assert function() == 1
        Station.objects.update(name="c")
        assert function() == 2
    execute("UPDATE tests_station SET name = 'd'")
    time.sleep(0.01)
    assert function() == 3


# -- rows ------------------------------------------------------------------------------------------


def _only_names(rows: Any) -> list[str]:
    return sorted(row.name for row in rows)


def test_fingerprinted_rows(django_assert_num_queries: Any) -> None:
    """A queryset in some form, read again when its fingerprint has moved."""
    station("a")
    whole = Fingerprinted(Station.objects.filter(name__startswith="a"), every=0)
    names = Fingerprinted(Station, RowHash(Station, ["name"], every=0), serialize=_only_names)
    label = Fingerprinted("tests.Station", every=0, serialize=len)
    assert [row.name for row in whole.get()] == ["a"]
    assert [names.get(), label.get()] == [["a"], 1]
    with django_assert_num_queries(3):
        assert [len(whole.get()), names.get(), label.get()] == [1, ["a"], 1]
    execute("UPDATE tests_station SET name = 'ab'")
    assert [[row.name for row in whole.get()], names.get()] == [["ab"], ["ab"]]
    names.invalidate()
    assert names.get() == ["ab"]


def test_forms_do_not_mix() -> None:
    """Two forms of one queryset, or one form of two querysets, are told apart."""
    station("a", height=1.0)
    station("b", height=2.0)

    def taking(field: str) -> Any:
        return lambda rows: sorted(getattr(row, field) for row in rows)

    forms = [Fingerprinted(Station, every=0, serialize=taking(name)) for name in ("name", "height")]
    forms += [
        Fingerprinted(Station.objects.filter(name=name), every=0, serialize=len) for name in "ab"
    ]
    forms += [Fingerprinted(Station.objects.filter(name="a"), every=0, serialize=_only_names)]
    for _ in range(2):
        assert [form.get() for form in forms] == [["a", "b"], [1.0, 2.0], 1, 1, ["a"]]


@pytest.mark.usefixtures("closed_after")
async def test_async() -> None:
    """Coroutine functions, fingerprints and rows for async callers."""
    from asgiref.sync import sync_to_async

    await sync_to_async(station)("a")
    calls = 0
    asked = RowHash(Station, every=0)

    @cached_by(asked)
    async def function() -> list[str]:
        nonlocal calls
        calls += 1
        return [row.name async for row in Station.objects.cache()]

    rows = Fingerprinted(Station, every=0, serialize=_only_names)
    before = await asked.atext()
    assert [await function(), await function(), await rows.aget()] == [["a"]] * 3
    await sync_to_async(execute)("UPDATE tests_station SET name = 'b'")
    assert await asked.atext() != before
    assert [await function(), await function(), await rows.aget()] == [["b"]] * 3
    assert calls == 2


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: cached_by(), TypeError, "one fingerprint at least"),
        (lambda: cached_by(Station), TypeError, "takes fingerprints"),
        (lambda: RowHash(Station, "name"), TypeError, "names of fields"),
        (lambda: RowHash(Station, []), TypeError, "names of fields"),
        (lambda: RowHash(Station, every=-1), ValueError, "every is a number"),
        (lambda: RowHash(Station, every=True), ValueError, "every is a number"),
        (lambda: RowHash(3).text(), TypeError, "of a model or a queryset"),
        (lambda: RowHash("tests.Nothing").text(), LookupError, "Nothing"),
        (lambda: RowHash(Post.objects.prefetch_related("tags")).text(), ValueError, "prefetch"),
        (
            lambda: RowHash(Station.objects.order_by("?"), every=0).text(),
            ValueError,
            "random order",
        ),
        (lambda: Fingerprint(Station, every=0).text(), NotImplementedError, "RowHash"),
    ],
)
def test_what_makes_no_sense(wrong: Callable[[], Any], error: Any, message: str) -> None:
    """It is refused with what to do, as early as it can be known."""
    with pytest.raises(error, match=message):
        wrong()


def test_other_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a database whose hashes are not known, the newest stamp is recommended."""
    monkeypatch.setattr(row_hash, "_BY_VENDOR", {})
    with pytest.raises(NotSupportedError, match="use Newest"):
        RowHash(Station, every=0).text()
    assert Newest(Station, every=0).text()
    assert connections["default"].vendor in ("sqlite", "postgresql", "mysql")
