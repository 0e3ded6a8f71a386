"""The same rows in every database: groups of 1, 20, 100 and 1000 items."""

from __future__ import annotations

import datetime
import functools
from decimal import Decimal
from itertools import count

from django.db import transaction

from .models import Author, Group, Item, Tag

#: How many items a group has -> how many such groups.
GROUPS = {1: 60, 20: 100, 100: 12, 1000: 2}
AUTHORS, TAGS = 50, 30
KINDS = ["book", "film", "song", "game"]
START = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)


def fill() -> None:
    """Insert everything, in one transaction."""
    with transaction.atomic():
        Author.objects.bulk_create(
            Author(
                name=f"Author {n}",
                email=f"author{n}@example.com",
                country="DE",
                joined=START + datetime.timedelta(days=n),
            )
            for n in range(AUTHORS)
        )
        Tag.objects.bulk_create(Tag(name=f"tag {n}") for n in range(TAGS))
        Group.objects.bulk_create(
            Group(name=f"Group of {size}, {n}", size=size)
            for size, groups in GROUPS.items()
            for n in range(groups)
        )
        authors, tags = list(Author.objects.order_by("pk")), list(Tag.objects.order_by("pk"))
        number = count()
        Item.objects.bulk_create(
            (
                item(next(number), group, authors)
                for group in Group.objects.order_by("pk")
                for _ in range(group.size)
            ),
            batch_size=500,
        )
        link = Item.tags.through
        link.objects.bulk_create(
            (
                link(item_id=item_id, tag_id=tags[(item_id + step) % TAGS].pk)
                for item_id in Item.objects.order_by("pk").values_list("pk", flat=True)
                for step in (0, 7, 13)
            ),
            batch_size=2000,
        )


def item(n: int, group: Group, authors: list[Author]) -> Item:
    """The n-th item."""
    return Item(
        title=f"The title of item {n}, as long as titles are",
        slug=f"the-title-of-item-{n}",
        group=group,
        author=authors[n % AUTHORS],
        active=True,
        kind=KINDS[n % len(KINDS)],
        price=Decimal(n % 1000) / 100,
        views=n,
        rating=n / 7,
        created=START + datetime.timedelta(minutes=n),
        changed=START.date(),
    )


@functools.cache
def groups(size: int) -> list[int]:
    """The keys of the groups of so many items."""
    return list(Group.objects.filter(size=size).order_by("pk").values_list("pk", flat=True))


@functools.cache
def items() -> list[int]:
    """The keys of all items."""
    return list(Item.objects.order_by("pk").values_list("pk", flat=True))
