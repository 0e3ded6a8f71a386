"""Functions remember their results until rows change, time is over, or somebody says so."""

from __future__ import annotations

import pytest
from tests.models import Category, Post, Author

from cacheops_lite import cached, cached_as

pytestmark = pytest.mark.django_db(transaction=True)


def test_smoke():
    calls = []

    @cached_as(Category)
    def f(x=1):
        calls.append(x)
        return len(calls)

    assert f() == 1
    assert f() == 1
    assert f(2) == 2
    Category.objects.create(title="a", slug="a")
    assert f() == 3
    f.invalidate()
    assert f() == 4
    assert f(2) == 5
    f.invalidate(x=2)
    assert f() == 4
    assert f(2) == 6
