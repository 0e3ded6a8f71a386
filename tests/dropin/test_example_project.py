"""The example shop runs, and what it shows is cached and never old.

It is a project as one writes it for django-cacheops. ``shop_visits`` visits it once, in a process
with the shop's own settings, databases and files; the tests look at what was seen.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from .test_names import CALLS, PLACES, SETTINGS

VISIT = "import django; django.setup(); from tests.dropin import shop_visits; shop_visits.main()"

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop"


@pytest.fixture(scope="module")
def seen(running_servers: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a visit of the shop saw."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", VISIT],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "examples.shop.settings",
            "CACHEOPS_REDIS": settings.CACHEOPS_REDIS,
            "SHOP_DATA": str(tmp_path_factory.mktemp("shop")),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# -- it is a cacheops project --------------------------------------------------------------------


def imported() -> Iterator[tuple[str, str]]:
    for path in SHOP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cacheops_lite"):
                module = (node.module or "").removeprefix("cacheops_lite").lstrip(".")
                yield from ((module, alias.name) for alias in node.names)


def test_it_differs_by_the_name_of_the_app_only() -> None:
    """The shop imports nothing, and sets nothing, that django-cacheops does not have."""
    found = set(imported())
    assert len(found) >= 10
    for module, name in found:
        assert name in (PLACES[module] if module else CALLS)
    known = {
        line.split(" ", 1)[0]
        for line in (SHOP / "settings.py").read_text().splitlines()
        if line.startswith(("CACHEOPS", "FILE_CACHE"))
    }
    assert known <= SETTINGS


def test_it_uses_everything() -> None:
    """Every decorator, cache and way to invalidate of the package is used by the shop or its test."""
    visits = (Path(__file__).parent / "shop_visits.py").read_text()
    used = {name for _, name in imported()} | {name for name in CALLS if name in visits}
    assert set(CALLS) - used <= {"FileCache", "RedisCache", "reap_conjs"}


# -- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/category/books/", "/products/", "/cards/"])
def test_pages_are_cached(seen: dict[str, Any], path: str) -> None:
    """A page read again asks the database nothing: querysets, views, fragments of both engines."""
    assert seen[f"first {path}"]
    assert seen[f"cost {path}"] == []


def test_hosts(seen: dict[str, Any]) -> None:
    """Who starts it on his own machine sees the red shop, and the blue one by its first label."""
    red, localhost, blue, blue_localhost = seen["hosts"]
    assert red == localhost != blue == blue_localhost


@pytest.mark.parametrize("path", ["/", "/products/", "/cards/"])
def test_pages_follow_a_saved_product(seen: dict[str, Any], path: str) -> None:
    """``save()`` is seen on every page that shows the product."""
    assert "thing 0" in seen[f"first {path}"]
    assert "renamed" in seen[f"renamed {path}"] and "thing 0" not in seen[f"renamed {path}"]


@pytest.mark.parametrize("path", ["/", "/category/books/", "/products/"])
def test_pages_follow_an_update(seen: dict[str, Any], path: str) -> None:
    """``update()`` of a category is seen, through joins and in fragments as well."""
    assert "Novels" in seen[f"updated {path}"] and "Books" not in seen[f"updated {path}"]


@pytest.mark.parametrize("path", ["/", "/products/", "/cards/"])
def test_pages_follow_an_invalidated_update(seen: dict[str, Any], path: str) -> None:
    """A product that was hidden by ``invalidated_update()`` is gone."""
    assert "renamed" not in seen[f"hidden {path}"] and "thing 1" in seen[f"hidden {path}"]


def test_extra_of_a_view(seen: dict[str, Any]) -> None:
    """Staff has another page, ``request.user`` is cached, and follows a change of the user."""
    plain, staff = seen["staff"]
    assert "edit" in staff and "edit" not in plain
    assert seen["user cost"] == []
    assert seen["no staff"] == plain


def test_tenants(seen: dict[str, Any]) -> None:
    """Each host has its pages; what one changes leaves the other cached and as it was."""
    red, blue, _ = seen["tenants"]
    assert "thing 1 of Novels" in red and "thing 1 of Books" in blue
    assert "blue thing" in seen["blue"]
    assert seen["red cost"] == [] and seen["red"] == red
    assert seen["prefixes"] == [True, True]
    assert "The new shop" in seen["title"][0] and "The shop" in seen["title"][1]
    assert "11.00" in seen["title"][0] and "21.00" in seen["title"][1]


# -- by time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/clock/utc/", "/terms/", "/hello/ann/"])
def test_by_time_until_invalidated(seen: dict[str, Any], path: str) -> None:
    """``cached_view``, the file cache and ``cached`` keep a value until it is invalidated."""
    first, second = seen[f"twice {path}"]
    assert first == second != seen[f"again {path}"]


def test_keys_of_results(seen: dict[str, Any]) -> None:
    """``key(…).set()`` replaces a result; a function in the file cache is invalidated, too."""
    assert seen["set"] == "Hello from the cache"
    first, second, third = seen["rates"]
    assert first != second == third


# -- functions -----------------------------------------------------------------------------------


def test_functions(seen: dict[str, Any]) -> None:
    """A function cached as models is free when repeated, and follows changes of each of them."""
    assert seen["statistics cost"] == []
    assert seen["sold"] == [0, 1]
    assert seen["threads"] == [7] * 4


def test_transactions(seen: dict[str, Any]) -> None:
    """A transaction sees what it wrote, and everybody does after its commit."""
    assert seen["atomic"] == [7, 7]


def test_automatic_caching(seen: dict[str, Any]) -> None:
    """Foreign keys, counts, and objects that were just saved come from the cache."""
    assert seen["customer cost"] == [] and seen["permissions cost"] == []
    assert seen["saved cost"] == 0


# -- by hand -----------------------------------------------------------------------------------


def test_no_invalidation(seen: dict[str, Any]) -> None:
    """A batch job that invalidates nothing is seen when its object is invalidated by hand."""
    assert seen["import"] == [False, True]


def test_fragments(seen: dict[str, Any]) -> None:
    """``invalidate_fragment`` drops one fragment of a page."""
    assert seen["footer"] == [0, 1]


@pytest.mark.parametrize("target", ["shop.product.", "shop.product", "shop", "all"])
def test_the_invalidate_command(seen: dict[str, Any], target: str) -> None:
    """Each form of the command drops a cached page."""
    assert seen[f"invalidate {target}"]


def test_other_commands(seen: dict[str, Any]) -> None:
    """The commands of cron jobs run and say what they did."""
    assert seen["cleanfilecache"] and seen["reapconjs"]


def test_signals(seen: dict[str, Any]) -> None:
    """Hits, misses and invalidations were counted by the shop's receivers."""
    assert all(seen["signals"].values())
