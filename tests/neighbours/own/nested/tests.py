"""Nested sets, which mptt shifts by updates of its own, are as fresh as the parents."""

from __future__ import annotations

import random
from typing import Any

import pytest
from mptt.templatetags.mptt_tags import cache_tree_children
from mptt.utils import get_cached_trees

from nested.models import Book, Genre, Place

pytestmark = pytest.mark.django_db


def parents(model: Any) -> dict[int, int | None]:
    return dict(model.objects.order_by().values_list("pk", "parent_id").iterator())


def below(known: dict[int, int | None], pk: int) -> set[int]:
    children = {one for one, parent in known.items() if parent == pk}
    return children.union(*(below(known, child) for child in children))


def check(model: Any) -> None:
    """Ask each node in all of mptt's ways; all are to agree with the parents."""
    known = parents(model)
    for pk, parent in known.items():
        node = model.objects.get(pk=pk)
        under = below(known, pk)
        over = {one for one in known if pk in below(known, one)}
        assert {one.pk for one in node.get_descendants()} == under
        assert node.get_descendant_count() == len(under) == node.get_descendants().count()
        assert {one.pk for one in node.get_ancestors()} == over
        assert node.get_root().pk in over | {pk}
        children = {one for one in known if known[one] == pk}
        assert {one.pk for one in node.get_children()} == children
        assert {one.pk for one in node.get_leafnodes()} == {
            one for one in under if one not in known.values()
        }
        siblings = {one for one in known if known[one] == parent and one != pk}
        assert {one.pk for one in node.get_siblings()} == siblings
        assert node.level == len(over)
        before, after = node.get_previous_sibling(), node.get_next_sibling()
        assert {one.pk for one in (before, after) if one} <= siblings
    roots = {pk for pk, parent in known.items() if parent is None}
    assert {one.pk for one in model.objects.root_nodes()} == roots
    assert {one.pk for one in get_cached_trees(model.objects.all())} == roots
    assert {one.pk for one in cache_tree_children(model.objects.filter(level__lte=1))} == roots
    some = model.objects.filter(level=1)
    expected = set(some.values_list("pk", flat=True))
    expected = expected.union(*(below(known, pk) for pk in expected))
    found = model.objects.get_queryset_descendants(some, include_self=True)
    assert {one.pk for one in found} == expected


def check_books() -> None:
    known = parents(Genre)
    genres = list(Book.objects.values_list("genre_id", flat=True).iterator())
    counted = Genre.objects.add_related_count(
        Genre.objects.all(), Book, "genre", "books", cumulative=True
    )
    for genre in counted:
        under = below(known, genre.pk) | {genre.pk}
        assert genre.books == sum(one in under for one in genres)


def change(model: Any, draw: random.Random, step: int) -> None:
    nodes = list(model.objects.order_by("pk"))
    node = draw.choice(nodes) if nodes else None
    match draw.choice(["add", "add", "add", "move", "move", "rename", "delete", "bulk", "rebuild"]):
        case "add":
            model.objects.create(name=f"{draw.randrange(100):02}", parent=node)
        case "move" if node is not None:
            inside = {one.pk for one in node.get_descendants(include_self=True)}
            if others := [one for one in nodes if one.pk not in inside]:
                where = ["first-child", "last-child", "left", "right"]
                node.move_to(draw.choice(others), draw.choice(where))
        case "rename" if node is not None:
            node.name = f"{draw.randrange(100):02}"
            node.save()
        case "delete" if node is not None and len(nodes) > 4:
            node.delete()
        case "bulk":
            with model.objects.delay_mptt_updates():
                for _ in range(2):
                    model.objects.create(name=f"{draw.randrange(100):02}", parent=node)
        case "rebuild" if node is not None:
            with model.objects.disable_mptt_updates():
                model.objects.create(name=f"d{step}", parent=node)
            model.objects.rebuild()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", [Genre, Place])
def test_trees_that_change(model: Any, seed: int) -> None:
    """Insertions, moves, deletions and rebuilding show in every question about the tree."""
    draw = random.Random(seed)
    for step in range(20):
        change(model, draw, step)
        check(model)
        if model is Genre:
            if genres := list(Genre.objects.order_by("pk")):
                Book.objects.create(genre=draw.choice(genres), title=f"b{step}")
            check_books()
