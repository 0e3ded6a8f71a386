"""``cacheops_lite.testing``: what users' tests see of the cache, inside and outside of TestCase."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings

from cacheops_lite import cache, cached_as, invalidate_obj, signals, testing
from cacheops_lite.orm import testcases
from cacheops_lite.testing import switch

from .models import Category, Tag

ROOT = Path(__file__).resolve().parents[1]


def tags(group: str = "a") -> list[str]:
    """The names of a group, through the cache."""
    return [tag.name for tag in Tag.objects.filter(group=group).cache()]


class InTestCase(testing.CacheopsTestMixin, TestCase):
    """Inside TestCase, whose transactions never commit."""

    @classmethod
    def setUpTestData(cls) -> None:
        Tag.objects.create(name="first", group="a")

    def test_data_of_the_class_is_cached(self) -> None:
        """Tables that setUpTestData wrote are cached, and a hit asks the database nothing."""
        assert tags() == ["first"]
        with self.assertNumQueries(0), self.assertHits(1, misses=0):
            assert tags() == ["first"]

    def test_each_test_begins_empty(self) -> None:
        """What another test of the class stored is not there."""
        self.assertNotCached(Tag.objects.filter(group="a").cache())
        tags()
        self.assertCached(Tag.objects.filter(group="a").cache())

    test_each_test_begins_empty_again = test_each_test_begins_empty

    def test_a_statement_counts_as_committed(self) -> None:
        """After save, update, delete and bulk_create the old answer is gone, the new one cached."""
        tags()
        tag = Tag.objects.create(name="second", group="a")
        assert tags() == ["first", "second"]
        Tag.objects.filter(pk=tag.pk).update(name="zweiter")
        assert tags() == ["first", "zweiter"]
        Tag.objects.bulk_create([Tag(name="third", group="a")])
        assert tags() == ["first", "third", "zweiter"]
        tag.delete()
        assert tags() == ["first", "third"]
        with self.assertHits(1, misses=0):
            tags()

    def test_raw_sql_counts_as_committed(self) -> None:
        """A write through the cursor is seen at once."""
        tags()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tests_tag SET name = 'raw'")
        assert tags() == ["raw"]
        with self.assertHits(1):
            tags()

    def test_only_what_is_affected_is_dropped(self) -> None:
        """The granularity of production holds in tests."""
        tags()
        Tag.objects.create(name="other", group="b")
        with self.assertHits(1, misses=0):
            tags()

    def test_a_block_is_a_transaction(self) -> None:
        """Inside atomic its tables are not cached; when the outermost block ends, they are."""
        tags()
        with transaction.atomic():
            with transaction.atomic():
                Tag.objects.create(name="second", group="a")
            with self.assertHits(0, misses=0):
                assert tags() == ["first", "second"]
        with self.assertHits(1, misses=1):
            assert tags() == ["first", "second"]
            assert tags() == ["first", "second"]

    def test_a_block_without_a_savepoint_is_one_too(self) -> None:
        """atomic(savepoint=False) and atomic(durable=True) end as commits."""
        for options in ({"savepoint": False}, {"durable": True}):
            before = tags()
            with transaction.atomic(**options):
                Tag.objects.create(name="n", group="a")
            assert tags() == [*before, "n"]

    def test_a_block_that_rolls_back_changes_nothing(self) -> None:
        """What was cached before it is still there, and right."""
        tags()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Tag.objects.create(name="never", group="a")
            raise ZeroDivisionError
        with self.assertHits(1, misses=0):
            assert tags() == ["first"]

    def test_a_failed_statement_breaks_no_test(self) -> None:
        """An update that the database refuses leaves the test as usable as without the cache."""
        Category.objects.create(title="x", slug="x")
        other = Category.objects.create(title="y", slug="y")
        tags()
        with pytest.raises(IntegrityError), transaction.atomic():
            Category.objects.filter(pk=other.pk).update(slug="x")
        assert [c.slug for c in Category.objects.order_by("slug").cache()] == ["x", "y"]
        with self.assertHits(1, misses=0):
            tags()

    def test_signals_and_cache_on_save_come_at_once(self) -> None:
        """``cache_invalidated`` is sent when the statement ends, not at the end of the test."""
        told = []

        def listen(sender, **kwargs):
            told.append(sender)

        signals.cache_invalidated.connect(listen)
        try:
            Tag.objects.create(name="told")
        finally:
            signals.cache_invalidated.disconnect(listen)
        assert told == [Tag]

    def test_invalidation_by_hand_is_at_once(self) -> None:
        """``invalidate_obj`` needs no end of a transaction."""
        tags()
        invalidate_obj(Tag.objects.get(name="first"))
        self.assertNotCached(Tag.objects.filter(group="a").cache())

    def test_functions_are_cached(self) -> None:
        """``cached_as`` follows the same rules."""
        calls = []

        @cached_as(Tag, timeout=60)
        def number() -> int:
            calls.append(1)
            return Tag.objects.count()

        assert [number(), number()] == [1, 1]
        Tag.objects.create(name="second")
        assert [number(), number()] == [2, 2]
        assert len(calls) == 2

    def test_simple_values_do_not_leak(self) -> None:
        """The simple cache is as empty as the rest."""
        assert cache.get_or_set("leak", lambda: self.id()) == self.id()

    test_simple_values_do_not_leak_either = test_simple_values_do_not_leak


class WithoutCache(testing.CacheopsTestMixin, TestCase):
    """``cacheops = False``."""

    cacheops = False

    def test_every_read_asks_the_database(self) -> None:
        """Nothing is stored, nothing is a hit."""
        for _ in range(2):
            with self.assertNumQueries(1), self.assertHits(0, misses=0):
                tags()


class WithCommits(testing.CacheopsTestMixin, TransactionTestCase):
    """TransactionTestCase commits for real; nothing is ignored there."""

    def test_a_commit_is_a_commit(self) -> None:
        """The cache works as in production, and is empty at the begin."""
        self.assertNotCached(Tag.objects.filter(group="a").cache())
        assert tags() == []
        with transaction.atomic():
            Tag.objects.create(name="first", group="a")
        assert tags() == ["first"]
        with self.assertHits(1, misses=0):
            tags()

    test_again = test_a_commit_is_a_commit


class OnTheServer(testing.CacheopsTestMixin, TestCase):
    """``cacheops_redis = None``: the server of the project, under a prefix of this process."""

    cacheops_redis = None

    def test_keys_have_the_prefix_of_the_process(self) -> None:
        """Nothing of a test meets the keys of a site on the same server."""
        tags()
        cache.set("simple", 1)
        keys = client().keys()
        assert keys and all(switch.own_prefix().encode() in key for key in keys)

    def test_clear_takes_only_its_own(self) -> None:
        """Keys of others stay, whatever characters a prefix has."""
        tags()
        client().set("somebody's", "value")
        testing.clear()
        assert client().keys() == [b"somebody's"]


def client() -> redis.Redis:
    from django.conf import settings

    return redis.Redis.from_url(settings.CACHEOPS_REDIS)


@pytest.fixture
def on() -> Iterator[None]:
    with testing.caching():
        yield


@pytest.mark.django_db
def test_asserts_can_fail(on: None) -> None:
    """Each assert says what it saw."""
    queryset = Tag.objects.filter(group="a").cache()
    with pytest.raises(AssertionError, match=r"not cached:\ntests.Tag.fetch: cacheable"):
        testing.assert_cached(queryset)
    with pytest.raises(AssertionError, match="no read went through the cache"):
        with testing.assert_hits(1):
            pass
    with pytest.raises(AssertionError, match=r"0 hits and 1 misses seen:\nmiss tests.Tag"):
        with testing.assert_hits(1):
            list(queryset.all())
    with pytest.raises(AssertionError, match=r"cached:\n"):
        testing.assert_not_cached(queryset)
    with pytest.raises(AssertionError, match="0 hits and 3 misses expected"):
        with testing.assert_hits(0, misses=3):
            list(queryset.all())


@pytest.mark.django_db
def test_what_a_test_wrote_is_not_cached_after_the_block() -> None:
    """The transaction that will be rolled back counts again when ``caching()`` is over."""
    with testing.caching():
        Tag.objects.create(name="rolled back later", group="a")
        assert tags() == ["rolled back later"]
    with testing.assert_hits(0, misses=0):
        assert tags() == ["rolled back later"]
    explanation = Tag.objects.filter(group="a").cache().cache_explain()
    assert "written" in explanation.reason


@pytest.mark.django_db
def test_rows_written_before_the_block_count(on: None) -> None:
    """A fixture may have written before the cache was switched on."""
    with testing.no_caching():
        Tag.objects.create(name="early", group="a")
    assert tags() == ["early"]
    with testing.assert_hits(1, misses=0):
        assert tags() == ["early"]


@pytest.mark.django_db(transaction=True)
def test_the_rollback_of_a_test_clears(on: None) -> None:
    """What was cached inside a transaction of TestCase is gone with it."""
    atomic = transaction.atomic()
    atomic._from_testcase = True
    with atomic:
        Tag.objects.create(name="never", group="a")
        assert tags() == ["never"]
        transaction.set_rollback(True)
    assert tags() == []


@override_settings(CACHEOPS_PREFIX=lambda query: "tenant:")
@pytest.mark.django_db
def test_a_prefix_function_is_kept() -> None:
    """A project whose prefix is a function has it inside the tests' prefix."""
    with testing.caching(redis=None):
        tags()
        keys = client().keys()
        assert keys and all(f"{switch.own_prefix()}tenant:".encode() in key for key in keys)
    assert client().keys() == []


def test_blocks_nest_and_leave_nothing() -> None:
    """Two blocks in one another end as one; afterwards Django is as it was."""
    before = vars(transaction.Atomic)["__exit__"]
    with testing.caching(), testing.caching():
        assert testcases.absent
        assert vars(transaction.Atomic)["__exit__"] is not before
    assert not testcases.absent
    assert vars(transaction.Atomic)["__exit__"] is before
    assert testcases.on_rollback == []


def test_patterns_of_scan_are_taken_literally() -> None:
    """A prefix with characters of SCAN's patterns matches itself alone."""
    assert switch._literal("a*b?[c]^") == r"a\*b\?\[c\]\^"


CONFTEST = 'pytest_plugins = ["cacheops_lite.testing.pytest_plugin"]\n'
PROJECT = {
    "project_settings.py": """
        SECRET_KEY = "x"
        INSTALLED_APPS = ["cacheops_lite", "shelf"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        CACHEOPS_REDIS = "redis://localhost:1/0"  # nobody listens there
        CACHEOPS = {"shelf.*": {"ops": "all", "timeout": 60}}
    """,
    "shelf/__init__.py": "",
    "shelf/models.py": """
        from django.db import models

        class Book(models.Model):
            title = models.CharField(max_length=50)
    """,
    "conftest.py": CONFTEST,
    "pytest.ini": """
        [pytest]
        DJANGO_SETTINGS_MODULE = project_settings
        pythonpath = .
        filterwarnings = error
        addopts = -p no:randomly -p no:cacheprovider -p no:asyncio
    """,
    "test_shelf.py": """
        import pytest
        from shelf.models import Book

        def read():
            return [book.title for book in Book.objects.all()]

        @pytest.fixture
        def book(db):
            return Book.objects.create(title="written by a fixture")

        def test_off_by_default(book, django_assert_num_queries):
            for _ in range(2):
                with django_assert_num_queries(1):
                    read()

        @pytest.mark.parametrize("time", [1, 2])
        def test_on(book, cacheops, django_assert_num_queries, time):
            cacheops.assert_not_cached(Book.objects.all())
            assert read() == ["written by a fixture"]
            with django_assert_num_queries(0), cacheops.assert_hits(1):
                read()
            cacheops.assert_cached(Book.objects.all())

        def test_on_before_the_database(cacheops, book):
            read()
            cacheops.assert_cached(Book.objects.all())

        def test_empty_again(cacheops, db):
            assert read() == []

        @pytest.mark.django_db(transaction=True)
        def test_real_commits(cacheops):
            Book.objects.create(title="committed")
            assert read() == ["committed"]
            with cacheops.assert_hits(1):
                read()

        def test_off_by_name(no_cacheops, book, django_assert_num_queries):
            for _ in range(2):
                with django_assert_num_queries(1):
                    read()
    """,
}


def run_project(folder: Path, *arguments: str) -> str:
    """Run pytest on a project of its own, as a user would; what it printed."""
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    return done.stdout + done.stderr


def test_fixtures_of_pytest(tmp_path: Path) -> None:
    """The fixtures do what they say, without any server."""
    assert "7 passed" in run_project(tmp_path)


def test_fixtures_in_parallel(tmp_path: Path) -> None:
    """Workers of xdist do not meet in the cache."""
    assert "7 passed" in run_project(tmp_path, "-n", "2")


def test_the_ini_option(tmp_path: Path) -> None:
    """``cacheops = on`` caches in every test but those that say no; another word is an error."""
    printed = run_project(tmp_path, "-o", "cacheops=on")
    assert "1 failed, 6 passed" in printed
    assert "FAILED test_shelf.py::test_off_by_default" in printed
    assert "must be on or off" in run_project(tmp_path, "-o", "cacheops=maybe")


def test_importing_needs_no_settings() -> None:
    """The plugin can be loaded before the project's settings are known."""
    code = "import cacheops_lite.testing.pytest_plugin, cacheops_lite.testing"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        check=True,
        timeout=60,
    )
