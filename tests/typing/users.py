"""Code as users write it; each comment says what mypy must make of its line.

``# is TYPE`` follows a ``reveal_type``; ``# error: …`` a mistake that must be found.
"""

from __future__ import annotations

import datetime
from typing import Any, reveal_type

from blog.models import Post, Tag
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.test import TestCase
from django.views.generic import View

from cacheops_lite import (
    InvalidationRefused,
    cache,
    cached,
    cached_as,
    cached_view,
    cached_view_as,
    file_cache,
    invalidate_all,
    invalidate_model,
    invalidate_obj,
    no_invalidation,
)
from cacheops_lite.signals import cache_read
from cacheops_lite.testing import CacheopsTestMixin, assert_cached, assert_hits


class TagQuerySet(models.QuerySet[Tag]):
    def short(self) -> TagQuerySet:
        return self.filter(name__length__lt=5).cache(ops={"fetch", "count"}, timeout=60)


def querysets(tags: TagQuerySet, posts: models.QuerySet[Post]) -> None:
    reveal_type(posts.cache())  # is QuerySet[Post, Post]
    reveal_type(posts.cache(ops="get", timeout=0.5, lock=True).nocache())  # is QuerySet[Post, Post]
    reveal_type(posts.cache().get())  # is Post
    reveal_type(posts.cache().first())  # is Post | None
    reveal_type(posts.cache().count())  # is int
    reveal_type(list(posts.cache()))  # is list[Post]
    reveal_type(posts.values_list("title", flat=True).cache())  # is QuerySet[Post, str]
    reveal_type(posts.inplace().filter(views=1).cloning())  # is QuerySet[Post, Post]
    reveal_type(tags.cache().short().nocache())  # is TagQuerySet
    reveal_type(posts.invalidated_update(views=1))  # is int
    reveal_type(posts.cache_explain().dropped_by())  # is list[str]
    reveal_type(Post.objects.cache())  # is QuerySet[Post, Post]
    reveal_type(Post.objects.nocache().get(pk=1).title)  # is str
    reveal_type(Post.objects.cache_explain("count").cached)  # is bool
    posts.cache(timeot=5)  # error: Unexpected keyword argument "timeot"
    posts.cache(timeout="5")  # error: incompatible type "str"; expected "float | None"
    Post.objects.cache(ops=5)  # error: incompatible type "int"
    posts.cached()  # error: has no attribute "cached"


async def awaiting(posts: models.QuerySet[Post]) -> None:
    reveal_type(await posts.cache().aget(pk=1))  # is Post
    reveal_type([post async for post in posts.cache()])  # is list[Post]


@cached_as(Post, timeout=60, extra="x")
def titles(category: int, limit: int = 10) -> list[str]:
    return []


@cached(timeout=datetime.timedelta(minutes=1))
async def rate(currency: str) -> float:
    return 1.0


@cached
def bare(number: int) -> int:
    return number


@file_cache.cached(timeout=60)
def filed(number: int) -> int:
    return number


class Shelf:
    @cached_as(Post)
    def titles(self, category: int) -> list[str]:
        return []

    @cached(timeout=60)
    async def atitles(self, category: int) -> list[str]:
        return []


async def functions(shelf: Shelf) -> None:
    reveal_type(titles(3))  # is list[str]
    reveal_type(titles(3, limit=5))  # is list[str]
    reveal_type(await rate("EUR"))  # is float
    reveal_type(bare(1))  # is int
    reveal_type(filed(1))  # is int
    reveal_type(shelf.titles(3))  # is list[str]
    reveal_type(await shelf.atitles(category=3))  # is list[str]
    reveal_type(titles.invalidate(3))  # is None
    reveal_type(await rate.ainvalidate("EUR"))  # is None
    reveal_type(titles.invalidate_all())  # is None
    titles.key(3, limit=5).set(["x"])
    Shelf.titles.invalidate(shelf, 3)
    titles("3")  # error: incompatible type "str"; expected "int"
    titles(3, limt=5)  # error: Unexpected keyword argument "limt"
    titles.invalidate("3")  # error: incompatible type "str"; expected "int"
    shelf.titles("3")  # error: incompatible type "str"; expected "int"


@cached_view_as(Post, vary_user=True)
def page(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse()


@cached_view(timeout=60)
async def apage(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@cached_view_as(Post)
class Page(View):
    number = 5


async def views(request: HttpRequest) -> None:
    reveal_type(page(request, 3))  # is HttpResponse
    reveal_type(page(request, number=3).status_code)  # is int
    reveal_type(await apage(request))  # is HttpResponse
    reveal_type(page.invalidate("https://example.com/page/3", 3))  # is None
    reveal_type(Page().number)  # is int
    page(request, "3")  # error: incompatible type "str"; expected "int"


def rest(post: Post) -> None:
    invalidate_obj(post)
    invalidate_model(Post)
    invalidate_all()
    with no_invalidation:
        post.save()
    cache.set("key", 5, timeout=60)
    reveal_type(cache.get_many(["key"]))  # is dict[str, Any]
    invalidate_model(post)  # error: incompatible type "Post"; expected "type[Model]"
    try:
        post.save()
    except InvalidationRefused as error:
        print(error)


@no_invalidation
def quiet(number: int) -> str:
    return ""


def listen(sender: Any, hit: bool, **kwargs: Any) -> None:
    reveal_type(quiet(1))  # is str
    quiet("1")  # error: incompatible type "str"; expected "int"


cache_read.connect(listen)


class Tests(CacheopsTestMixin, TestCase):
    cacheops = True

    def test_something(self) -> None:
        self.assertCached(Post.objects.all().cache())
        with self.assertHits(1, misses=0) as reads:
            list(Post.objects.cache())
        reveal_type(reads.hits)  # is int
        reveal_type(assert_cached(Post.objects.all()).ttl)  # is float | None
        with assert_hits(1):
            pass
