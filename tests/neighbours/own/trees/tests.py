"""What django-tree-queries computes of the whole tree is as fresh as the rows themselves."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from trees.models import Node

pytestmark = pytest.mark.django_db


def expected() -> dict[str, tuple[str, ...]]:
    """The path of names of each node, by its name, made of the plain table."""
    rows = {
        pk: (parent, name)
        for pk, parent, name in Node.objects.without_tree_fields()
        .order_by()
        .values_list("pk", "parent_id", "name")
        .iterator()
    }

    def path(pk: int | None) -> Iterator[str]:
        if pk is not None:
            parent, name = rows[pk]
            yield from path(parent)
            yield name

    return {name: tuple(path(pk)) for pk, (_, name) in rows.items()}


def check() -> None:
    """Ask for each node in several ways; all are to agree with the plain table."""
    names = dict(Node.objects.without_tree_fields().values_list("pk", "name").iterator())
    for name, path in expected().items():
        node = Node.objects.with_tree_fields().get(name=name)
        assert tuple(names[pk] for pk in node.tree_path) == path
        assert node.tree_depth == len(path) - 1
        assert [one.name for one in node.ancestors(include_self=True)] == list(path)
        below = {one for one, other in expected().items() if name in other}
        assert {one.name for one in node.descendants(include_self=True)} == below
        assert Node.objects.descendants(node).count() == len(below) - 1
        [depth] = Node.objects.with_tree_fields().filter(name=name).values_list("tree_depth")
        assert depth == (len(path) - 1,)
    everyone = list(Node.objects.with_tree_fields())
    assert {one.name for one in everyone} == set(expected())
    lonely = Node.objects.with_tree_fields().tree_filter(position=0)
    assert all(one.position == 0 for one in lonely)


@pytest.mark.parametrize("seed", range(3))
def test_trees_that_change(seed: int) -> None:
    """Moves, renamings and deletions show in the paths of rows that they did not touch."""
    draw = random.Random(seed)
    root = Node.objects.create(name="root")
    for step in range(25):
        nodes = list(Node.objects.without_tree_fields().order_by("pk").iterator())
        node = draw.choice(nodes)
        match draw.choice(["add", "add", "move", "move", "rename", "place", "delete"]):
            case "add":
                Node.objects.create(name=f"n{step}", parent=node, position=draw.randrange(2))
            case "move":
                below = {one.pk for one in node.descendants(include_self=True)}
                if others := [one for one in nodes if one.pk not in below]:
                    Node.objects.filter(pk=node.pk).update(parent=draw.choice(others))
            case "rename":
                node.name = f"r{step}"
                node.save()
            case "place":
                Node.objects.filter(pk=node.pk).update(position=draw.randrange(2))
            case "delete" if node != root:
                node.delete()
        check()
