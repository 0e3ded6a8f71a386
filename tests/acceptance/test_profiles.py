"""Profiles: which models and ops are cached without being asked, for how long, and what is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Sum

from cacheops_lite import conf
from tests import models as m

from .tools import ALL, is_cached, messages, post, stored

pytestmark = pytest.mark.django_db(transaction=True)

#: One read for each op.
OPS: dict[str, Callable[[Any], Any]] = {
    "get": lambda manager: manager.get(title="a post"),
    "fetch": lambda manager: list(manager.filter(title="a post")),
    "count": lambda manager: manager.filter(title="a post").count(),
    "exists": lambda manager: manager.filter(title="a post").exists(),
    "aggregate": lambda manager: manager.aggregate(Sum("views")),
}


def cached_ops(manager: Any = None) -> set[str]:
    """The ops of ``Post`` that are cached without being asked."""
    manager = manager or m.Post.objects
    return {op for op, read in OPS.items() if is_cached(lambda read=read: read(manager))}


@pytest.mark.parametrize("op", sorted(OPS))
def test_only_the_ops_of_a_profile_are_cached(settings: Any, op: str) -> None:
    """With one op in its profile a model has exactly this op cached automatically."""
    settings.CACHEOPS = {"tests.post": {"ops": op, "timeout": 60}}
    post()
    assert cached_ops() == {op}


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ("all", set(OPS)),
        ({"all"}, set(OPS)),
        (["all", "get"], set(OPS)),
        (("get", "count"), {"get", "count"}),
        ({"fetch", "exists"}, {"fetch", "exists"}),
        (["aggregate"], {"aggregate"}),
        ((), set()),
        (None, set()),
    ],
)
def test_ops_are_a_name_or_any_collection(settings: Any, ops: Any, expected: set[str]) -> None:
    """``ops`` may be a string, a set, a list or a tuple, and "all" means every op."""
    settings.CACHEOPS = {"tests.post": {"ops": ops, "timeout": 60}}
    post()
    assert cached_ops() == expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"tests.post": "get"}, {"get"}),
        ({"tests.*": "fetch"}, {"fetch"}),
        ({"*.*": "count"}, {"count"}),
        ({"*.*": "get", "tests.*": "count"}, {"count"}),
        ({"tests.post": "exists", "*.*": "get", "tests.*": "count"}, {"exists"}),
        ({"tests.*": "count", "tests.post": ()}, set()),
        ({"Tests.Post": "get"}, {"get"}),
        ({"auth.*": "all", "tests.author": "all"}, set()),
    ],
)
def test_the_most_exact_pattern_wins(settings: Any, patterns: Any, expected: set[str]) -> None:
    """``app.model`` goes before ``app.*``, which goes before ``*.*``, in whatever order they stand."""
    settings.CACHEOPS = {name: {"ops": ops, "timeout": 60} for name, ops in patterns.items()}
    post()
    assert cached_ops() == expected


@pytest.mark.parametrize("pattern", ["tests.post", "tests.*"])
def test_none_forbids_caching(settings: Any, pattern: str) -> None:
    """A profile that is ``None`` forbids automatic caching, and asking by hand is an error."""
    settings.CACHEOPS = {**ALL, pattern: None}
    post()
    assert cached_ops() == set()
    with pytest.raises(ImproperlyConfigured, match=r"tests\.post"):
        m.Post.objects.cache()


def test_none_for_all_forbids_all_but_the_named(settings: Any) -> None:
    """``*.*: None`` forbids every model that no other pattern names."""
    settings.CACHEOPS = {"*.*": None, "tests.tag": {"ops": "all", "timeout": 60}}
    post()
    m.Tag.objects.create(name="red")
    assert cached_ops() == set()
    assert is_cached(lambda: list(m.Tag.objects.all()))


def test_a_query_that_joins_a_forbidden_model_is_not_cached(
    settings: Any, redis_client: Any
) -> None:
    """What depends on a forbidden model cannot be kept fresh, so it is not kept."""
    settings.CACHEOPS = {**ALL, "tests.author": None}
    post()
    assert not is_cached(lambda: list(m.Post.objects.filter(author__name="Ann")))
    assert not is_cached(lambda: list(m.Post.objects.select_related("author")))
    assert stored(redis_client) == []
    assert "tests_author" in m.Post.objects.filter(author__name="Ann").cache_explain().reason
    assert is_cached(lambda: list(m.Post.objects.all()))


def test_defaults_are_inherited(settings: Any, redis_client: Any) -> None:
    """A profile has from ``CACHEOPS_DEFAULTS`` what it does not say itself."""
    settings.CACHEOPS_DEFAULTS = {"ops": "count", "timeout": 50}
    settings.CACHEOPS = {"tests.post": {}, "tests.tag": {"ops": "fetch", "timeout": 500}}
    post()
    m.Tag.objects.create(name="red")
    assert cached_ops() == {"count"}
    (entry,) = stored(redis_client)
    assert 48_000 < redis_client.pttl(entry) <= 50_000
    assert is_cached(lambda: list(m.Tag.objects.all()))
    assert not is_cached(lambda: m.Tag.objects.count())
    (entry,) = [key for key in stored(redis_client) if b"tests_tag" in key]
    assert 498_000 < redis_client.pttl(entry) <= 500_000


@pytest.mark.parametrize("timeout", [30, 1.5])
def test_an_entry_lives_as_long_as_its_profile_says(
    settings: Any, redis_client: Any, timeout: float
) -> None:
    """The TTL of an entry is the profile's timeout, in seconds."""
    settings.CACHEOPS = {"tests.post": {"ops": "fetch", "timeout": timeout}}
    list(m.Post.objects.all())
    (entry,) = stored(redis_client)
    assert timeout * 1000 - 1000 < redis_client.pttl(entry) <= timeout * 1000


def test_a_model_that_no_pattern_names_is_not_cached(settings: Any) -> None:
    """Without a pattern nothing is cached; asking by hand is an error that names the model."""
    settings.CACHEOPS = {"tests.tag": {"ops": "all", "timeout": 60}}
    post()
    assert cached_ops() == set()
    with pytest.raises(ImproperlyConfigured, match=r"tests\.post.*CACHEOPS"):
        m.Post.objects.all().cache()


def test_without_profiles_nothing_happens(settings: Any, redis_client: Any) -> None:
    """An empty ``CACHEOPS`` is a switched off cache."""
    settings.CACHEOPS = {}
    post()
    assert cached_ops() == set()
    m.Post.objects.all().delete()
    assert redis_client.dbsize() == 0


def test_sessions_are_not_cached_by_the_widest_pattern(settings: Any) -> None:
    """What Django writes at every request is cached only if a pattern names it exactly."""
    from django.contrib.sessions.models import Session

    settings.CACHEOPS = ALL
    assert not is_cached(lambda: list(Session.objects.all()))
    settings.CACHEOPS = {**ALL, "sessions.session": {"ops": "all", "timeout": 60}}
    assert is_cached(lambda: list(Session.objects.all()))


# -- errors ------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, list[str]]] = {
    "unknown op": ({"tests.post": {"ops": "fetsh", "timeout": 60}}, ["tests.post", "fetsh", "fetch"]),
    "unknown op among others": (
        {"tests.post": {"ops": ["get", "save"], "timeout": 60}}, ["tests.post", "save", "exists"],
    ),
    "ops is no collection": ({"tests.post": {"ops": 5, "timeout": 60}}, ["tests.post", "ops"]),
    "unknown key": (
        {"tests.post": {"ops": "get", "timeot": 60, "timeout": 1}}, ["tests.post", "timeot", "timeout"],
    ),
    "no timeout": ({"tests.post": {"ops": "get"}}, ["tests.post", "timeout", "CACHEOPS_DEFAULTS"]),
    "timeout zero": ({"tests.post": {"ops": "get", "timeout": 0}}, ["tests.post", "timeout"]),
    "timeout negative": ({"tests.post": {"timeout": -1}}, ["tests.post", "timeout"]),
    "timeout text": ({"tests.post": {"ops": "get", "timeout": "60"}}, ["tests.post", "timeout"]),
    "timeout bool": ({"tests.post": {"ops": "get", "timeout": True}}, ["tests.post", "timeout"]),
    "timeout not a number": (
        {"tests.post": {"ops": "get", "timeout": float("nan")}}, ["tests.post", "timeout"],
    ),
    "timeout without end": (
        {"tests.post": {"ops": "get", "timeout": float("inf")}}, ["tests.post", "timeout"],
    ),
    "pattern without a dot": ({"post": {"timeout": 60}}, ["'post'", "app.model", "app.*"]),
    "pattern with a wild app": ({"*.post": {"timeout": 60}}, ["*.post", "app.model", "*.*"]),
    "pattern with two dots": ({"a.b.c": {"timeout": 60}}, ["a.b.c", "app.model"]),
    "pattern that is no text": ({5: {"timeout": 60}}, ["5", "app.model"]),
    "profile of the old style": ({"tests.post": ("get", 60)}, ["tests.post", "dict", "None"]),
    "profile that is False": ({"tests.post": False}, ["tests.post", "dict", "None"]),
    "profiles in a list": (["tests.post"], ["CACHEOPS", "dict"]),
    "unknown way of mass writes": ({"tests.post": {"mass": "some", "timeout": 1}}, ["mass", "rows"]),
    "depends on nothing known": (
        {"tests.post": {"depends_on": "tests.nope", "ops": "fetch", "timeout": 1}}, ["tests.post", "tests.nope"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_profile_is_an_error_that_says_what_to_do(settings: Any, case: str) -> None:
    """A query with a wrong CACHEOPS raises, and the system check says the same with a hint."""
    settings.CACHEOPS_DEFAULTS = {}
    settings.CACHEOPS, words = WRONG[case]
    with pytest.raises(ImproperlyConfigured) as caught:
        list(m.Post.objects.all())
    found = messages()
    assert [type(message) for message in found] == [checks.Error]
    for text in (str(caught.value), found[0].msg):
        assert [word for word in words if word not in text] == []
    assert found[0].hint


def test_wrong_defaults_are_an_error(settings: Any) -> None:
    """An unknown key in ``CACHEOPS_DEFAULTS`` is found, too."""
    settings.CACHEOPS_DEFAULTS = {"timeouts": 60}
    settings.CACHEOPS = {"tests.post": {"timeout": 60}}
    with pytest.raises(ImproperlyConfigured, match="timeouts"):
        conf.current()


@pytest.mark.parametrize("pattern", ["nope.*", "tests.nope", "tests.psot", "nope.post"])
def test_a_pattern_that_matches_nothing_is_warned_of(settings: Any, pattern: str) -> None:
    """A pattern for no installed app or model gets a warning that names it."""
    settings.CACHEOPS = {pattern: {"timeout": 60}}
    (message,) = messages()
    assert isinstance(message, checks.Warning)
    assert pattern in message.msg
    assert "app_label.model_name" in message.hint


@pytest.mark.parametrize(
    "pattern", ["tests.*", "*.*", "tests.post", "Tests.Post", "sessions.session"]
)
def test_a_pattern_that_matches_is_not_warned_of(settings: Any, pattern: str) -> None:
    """The checks are silent about a right configuration."""
    settings.CACHEOPS = {pattern: {"timeout": 60}}
    assert messages() == []
