"""Objects of several classes, which polymorphic fetches in several queries, are never stale."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db.models import Count, Q

from beasts.models import Beast, Cat, Dog, Owner, Puppy

pytestmark = pytest.mark.django_db

KINDS = (Beast, Dog, Puppy, Cat)


def plain(beast: Any) -> dict[str, Any]:
    values = {key: value for key, value in vars(beast).items() if not key.startswith("_")}
    return {"class": type(beast).__name__, **values}


def expected() -> list[dict[str, Any]]:
    """All beasts, made of one plain query for each table."""
    found: dict[int, dict[str, Any]] = {}
    for kind in KINDS:
        for row in kind.objects.non_polymorphic().order_by("pk").values().iterator():
            known = found.setdefault(row["id"], {})
            known.update(row, **{"class": kind.__name__})
    return [found[pk] for pk in sorted(found)]


def check() -> None:
    """Ask in polymorphic's ways; all are to agree with the plain tables."""
    known = expected()
    assert [plain(one) for one in Beast.objects.order_by("pk")] == known
    for kind in KINDS:
        names = {kind.__name__} | {sub.__name__ for sub in KINDS if issubclass(sub, kind)}
        some = [one for one in known if one["class"] in names]
        assert [plain(one) for one in kind.objects.order_by("pk")] == some
        assert [plain(one) for one in Beast.objects.instance_of(kind).order_by("pk")] == some
        rest = Beast.objects.not_instance_of(kind).order_by("pk")
        assert [plain(one) for one in rest] == [one for one in known if one not in some]
        assert kind.objects.count() == len(some)
    assert [one.pk for one in Beast.objects.filter(Dog___tricks__gte=2).order_by("pk")] == [
        one["id"] for one in known if one.get("tricks", 0) >= 2
    ]
    either = Beast.objects.filter(Q(Cat___lives__lt=9) | Q(Puppy___weeks=3)).order_by("pk")
    assert [one.pk for one in either] == [
        one["id"] for one in known if one.get("lives", 9) < 9 or one.get("weeks") == 3
    ]
    assert [type(one).__name__ for one in Beast.objects.defer("name").order_by("pk")] == [
        one["class"] for one in known
    ]
    based = list(Beast.objects.non_polymorphic().order_by("pk"))
    assert [plain(one) for one in Beast.objects.get_real_instances(based)] == known
    for owner in Owner.objects.prefetch_related("beasts").annotate(n=Count("beasts")):
        theirs = [one for one in known if one["owner_id"] == owner.pk]
        assert sorted(plain(one)["id"] for one in owner.beasts.all()) == [x["id"] for x in theirs]
        assert owner.n == len(theirs)
        again = owner.beasts.order_by("pk")
        assert [plain(one) for one in again] == theirs
    for beast in Beast.objects.select_related("owner").prefetch_related("friends"):
        assert (beast.owner and beast.owner.pk) == beast.owner_id
        through = Beast.friends.through.objects.filter(from_beast=beast)
        pks = set(through.values_list("to_beast_id", flat=True).iterator())
        assert {one.pk for one in beast.friends.all()} == pks


@pytest.mark.parametrize("seed", range(4))
def test_beasts_that_change(seed: int) -> None:
    """Writes of a base, of a child and of both show in what the other classes answer."""
    draw = random.Random(seed)
    owners = [Owner.objects.create(name=name) for name in "ab"]
    for step in range(20):
        beasts = list(Beast.objects.order_by("pk"))
        beast = draw.choice(beasts) if beasts else None
        match draw.choice(["add", "add", "save", "base", "child", "delete", "friends", "keep"]):
            case "save" if beast is not None:
                beast.name, beast.owner = f"s{step}", draw.choice([*owners, None])
                beast.save()
            case "base" if beast is not None:
                Beast.objects.filter(pk=beast.pk).update(name=f"b{step}", owner=draw.choice(owners))
            case "child":
                Dog.objects.filter(pk__gte=0).update(tricks=draw.randrange(4))
                Puppy.objects.update(weeks=draw.randrange(4), tricks=1)
                Cat.objects.filter(lives__gt=1).update(lives=draw.randrange(9))
            case "delete" if beast is not None:
                beast.delete()
            case "friends" if beast is not None:
                beast.friends.set(draw.sample(beasts, k=min(2, len(beasts))))
            case "keep" if type(beast) is Puppy:
                beast.delete(keep_parents=True)  # its other rows stay, and say that it is one
                Dog.objects.filter(pk=beast.pk).delete()
            case _:
                draw.choice(KINDS).objects.create(name=f"n{step}", owner=draw.choice(owners))
        check()
