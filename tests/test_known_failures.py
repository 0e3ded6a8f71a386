"""What existing caches of the ORM are known to get wrong, each by its name. All are cached here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group as AuthGroup
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.db import connection, models
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Case, Exists, F, Func, OuterRef, Q, Sum, Value, When
from django.db.models.functions import Cast, Now

from . import models as m
from .watching import hits

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture(autouse=True)
def everything_is_cached(settings: Any) -> None:
    settings.CACHEOPS = {"*.*": {"ops": "all", "timeout": 60}}


def post(**values: Any) -> m.Post:
    category = m.Category.objects.get_or_create(slug="a", defaults={"title": "a"})[0]
    author = m.Author.objects.get_or_create(name="Ann")[0]
    return m.Post.objects.create(**{"category": category, "author": author, **values})


def twice(read: Callable[[], Any]) -> Any:
    """The answer, which is the same from the cache; it did come from there."""
    with hits() as seen:
        first, second = read(), read()
    assert seen, "nothing was cached"
    assert seen[len(seen) // 2 :] == [True] * (len(seen) - len(seen) // 2)
    assert first == second
    return second


def test_output_fields_of_one_sql() -> None:
    """Two queries of the same SQL that convert in different ways do not share a result."""
    post(views=2)

    class Halved(models.IntegerField):
        def from_db_value(self, value: Any, *args: Any) -> Any:
            return value / 4

    def read(output_field: Any) -> Any:
        shown = Func("views", function="ABS", output_field=output_field)
        return list(m.Post.objects.annotate(x=shown).values_list("x", flat=True))

    assert twice(lambda: read(models.IntegerField())) == [2]
    assert twice(lambda: read(Halved())) == [0.5]
    assert twice(lambda: read(models.IntegerField())) == [2]


def test_known_related_objects() -> None:
    """A row reached through its owner leads back to that very object, also from the cache."""
    one = post()
    m.Profile.objects.create(author=one.author)
    author, category = m.Author.objects.get(), m.Category.objects.get()
    for _ in range(3):
        assert author.posts.all()[0].author is author
        assert category.posts.filter(views=0).first().category is category
        assert author.posts.get(pk=one.pk).author is author
        assert category.posts.select_related("author").all()[0].category is category
        (again,) = m.Author.objects.prefetch_related("posts")
        assert again.posts.all()[0].author is again
    with hits() as seen:
        assert author.posts.all()[0].author is author
    assert seen == [True]


def test_files_of_cached_rows(settings: Any, tmp_path: Any) -> None:
    """A file from the cache is whole: its instance, field and storage, and it can be written."""
    settings.MEDIA_ROOT = tmp_path
    stored = m.Attachment.objects.create()
    stored.file.save("a.txt", ContentFile(b"one"))
    for _ in range(3):
        found = m.Attachment.objects.get(pk=stored.pk)
        assert found.file.instance is found
        assert found.file.field is m.Attachment._meta.get_field("file")
        assert found.file.storage.exists(found.file.name)
        assert found.file.read() == b"one"
        found.file.close()
        assert found.file.url.endswith(".txt")
        assert found.file.size == 3
    found.file.save("b.txt", ContentFile(b"other"))
    with m.Attachment.objects.get(pk=stored.pk).file as file:
        assert file.read() == b"other"


def test_aggregates_of_aggregates() -> None:
    """An aggregate may be computed from another one of the same call."""
    post(views=4)
    post(views=6)
    for _ in range(2):
        found = m.Post.objects.aggregate(a=Sum("views"), b=F("a") / 2)
        assert found == {"a": 10, "b": 5}
    with hits() as seen:
        m.Post.objects.aggregate(a=Sum("views"), b=F("a") / 2)
    assert seen == [True]
    post(views=2)
    assert m.Post.objects.aggregate(a=Sum("views"), b=F("a") / 2) == {"a": 12, "b": 6}


def test_the_migration_recorder() -> None:
    """Which migrations are applied is never answered from the cache, whatever the profile says."""
    recorder = MigrationRecorder(connection)
    recorder.ensure_schema()
    with hits() as seen:
        before = set(recorder.applied_migrations())
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, %s)",
                ["tests", "0001_by_hand", "2024-01-01 00:00:00"],
            )
        assert set(recorder.applied_migrations()) - before == {("tests", "0001_by_hand")}
        recorder.record_applied("tests", "0002_recorded")
        assert ("tests", "0002_recorded") in recorder.applied_migrations()
        recorder.record_unapplied("tests", "0002_recorded")
        assert ("tests", "0002_recorded") not in recorder.applied_migrations()
        recorder.record_unapplied("tests", "0001_by_hand")
        assert set(recorder.applied_migrations()) == before
    assert seen == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: m.Post.objects.filter(Q(pk__in=[]) | Q(title="x")),
        lambda: m.Post.objects.exclude(pk__in=[]),
        lambda: m.Post.objects.filter(~Q(pk__in=[]), title="x"),
        lambda: m.Post.objects.filter(Q(category__in=m.Category.objects.none()) | Q(title="x")),
        lambda: m.Post.objects.exclude(category__in=m.Category.objects.none()),
        lambda: m.Post.objects.none() | m.Post.objects.filter(title="x"),
        lambda: m.Post.objects.none().union(m.Post.objects.filter(title="x")),
        lambda: m.Post.objects.annotate(
            x=Case(When(pk__in=[], then=Value(1)), default=Value(0))
        ).filter(x=0),
        lambda: m.Post.objects.filter(title="x"),
        lambda: m.Post.objects.filter(pk__in=m.Post.objects.filter(title="x")),
    ],
)
def test_empty_conditions_and_a_later_insert(make: Callable[[], Any]) -> None:
    """A result of nothing, by a condition of nothing, is dropped by the row that appears."""
    assert twice(lambda: list(make())) == []
    one = post(title="x")
    assert list(make()) == [one]
    assert list(m.Post.objects.none()) == list(m.Post.objects.filter(pk__in=[])) == []


def test_a_row_that_appears_on_the_right() -> None:
    """What a LEFT JOIN did not find may appear: the result says so from then on."""
    author = post().author
    lonely: list[Callable[[], Any]] = [
        lambda: list(m.Author.objects.filter(profile__isnull=True)),
        lambda: list(m.Author.objects.filter(profile=None)),
        lambda: list(m.Author.objects.exclude(profile__isnull=False)),
        lambda: list(m.Author.objects.filter(profile__bio__isnull=True)),
        lambda: m.Author.objects.filter(profile__isnull=True).count(),
        lambda: m.Author.objects.filter(profile__isnull=True).exists(),
    ]
    other: Callable[[], Any] = lambda: [  # noqa: E731
        getattr(found, "profile", None) for found in m.Author.objects.select_related("profile")
    ]
    assert [bool(twice(read)) for read in lonely] == [True] * 6
    assert twice(other) == [None]
    assert twice(lambda: list(m.Author.objects.values_list("profile__bio"))) == [(None,)]
    profile = m.Profile.objects.create(author=author, bio="x")
    assert [bool(read()) for read in lonely] == [False] * 6
    assert other() == [profile]
    assert list(m.Author.objects.values_list("profile__bio")) == [("x",)]
    profile.delete()
    assert [bool(read()) for read in lonely] == [True] * 6


def test_permissions_after_a_group_is_added() -> None:
    """has_perm() of a fresh user sees groups and permissions come and go."""
    user = User.objects.create(username="ann")
    group = AuthGroup.objects.create(name="editors")
    permission = Permission.objects.create(
        codename="read_post", name="x", content_type=ContentType.objects.get_for_model(m.Post)
    )

    def may() -> bool:
        return User.objects.get(pk=user.pk).has_perm("tests.read_post")

    assert twice(may) is False
    group.permissions.add(permission)
    assert twice(may) is False
    user.groups.add(group)
    assert twice(may) is True
    group.permissions.clear()
    assert twice(may) is False
    user.user_permissions.add(permission)
    assert twice(may) is True
    user.user_permissions.set([])
    group.permissions.set([permission])
    assert twice(may) is True
    group.delete()
    assert twice(may) is False


def test_exists_inside_case() -> None:
    """A subquery in a condition of an annotation is a table that the result depends on."""
    author = post().author
    busy = Exists(m.Post.objects.filter(author=OuterRef("pk"), published=True))

    def read() -> Any:
        shown = Case(When(busy, then=Value("busy")), default=Value("idle"))
        return list(m.Author.objects.annotate(x=shown).values_list("x", flat=True))

    assert twice(read) == ["idle"]
    m.Post.objects.update(published=True)
    assert twice(read) == ["busy"]
    author.posts.all().delete()
    assert twice(read) == ["idle"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: m.Post.objects.annotate(x=Cast(Now(), models.DateField())),
        lambda: m.Post.objects.filter(created__lt=Now()),
        lambda: m.Post.objects.filter(day=Cast(Now(), models.DateField())),
        lambda: m.Post.objects.order_by("?"),
        lambda: m.Post.objects.annotate(x=Case(When(created__lt=Now(), then=1), default=0)),
        lambda: m.Author.objects.filter(Exists(m.Post.objects.filter(created__lt=Now()))),
    ],
)
def test_clocks_inside_of_expressions(make: Callable[[], Any]) -> None:
    """What the clock or chance decides is never cached, however deep it stands."""
    post()
    with hits() as seen:
        for _ in range(2):
            list(make())
            make().first()
    assert seen == []
    assert not make().cache_explain().cacheable
