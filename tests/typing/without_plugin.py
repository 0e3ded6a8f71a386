"""Code as users write it whose type checker has no plugin of ours: what ``users.py`` is for mypy."""

from __future__ import annotations

from typing import reveal_type

from blog.models import Post
from django.db import models

from cacheops_lite import cached_as
from cacheops_lite.contrib.typed import CachedManager, CachedQuerySet


class PostQuerySet(models.QuerySet[Post], CachedQuerySet):
    def drafts(self) -> PostQuerySet:
        return self.filter(status="draft").cache(ops={"fetch", "count"}, timeout=60)


class PostManager(models.Manager[Post], CachedManager[Post]):
    pass


def querysets(posts: PostQuerySet) -> None:
    reveal_type(posts.cache())  # is PostQuerySet
    reveal_type(posts.cache().drafts().nocache().cache(timeout=0.5))  # is PostQuerySet
    reveal_type(posts.cache().get())  # is Post
    reveal_type(posts.cache_explain().dropped_by())  # is list[str]
    reveal_type(PostManager().cache())  # is QuerySet[Post, Post]
    posts.cache(timeot=5)  # error: Unexpected keyword argument "timeot"


@cached_as(Post, timeout=60)
def titles(category: int, limit: int = 10) -> list[str]:
    return []


def functions() -> None:
    reveal_type(titles(3, limit=5))  # is list[str]
    titles("3")  # error: incompatible type "str"; expected "int"
