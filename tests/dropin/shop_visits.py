"""Visits the example shop in a process of its own, and prints as JSON what it saw.

``main()`` is run by test_example_project.py under the settings of the shop; that file says what
must have been seen. Pages are read twice, and come with the SQL that the second reading cost.
"""

from __future__ import annotations

import io
import json
import threading
from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext, setup_test_environment

from cacheops_lite import (
    invalidate_all,
    invalidate_fragment,
    invalidate_model,
    invalidate_obj,
)
from cacheops_lite.redis import redis_client
from examples.shop import signals, views
from examples.shop.models import Category, Order, Product, Setting
from examples.shop.stats import statistics
from examples.shop.tenants import host

seen: dict[str, Any] = {}


def page(path: str, name: str = "red.example", user: User | None = None) -> str:
    client = Client()
    if user is not None:
        client.force_login(user)
    response = client.get(path, headers={"host": name})
    assert response.status_code == 200, response
    return response.content.decode().strip()


def statements(run: Any) -> list[str]:
    """The reading SQL of a repeated call."""
    run()
    with CaptureQueriesContext(connection) as captured:
        run()
    return [
        query["sql"]
        for query in captured.captured_queries
        if query["sql"].startswith("SELECT") and "django_session" not in query["sql"]
    ]


def hosts() -> None:
    names = ("red.example", "localhost:8000", "blue.example", "blue.localhost:8000")
    seen["hosts"] = [
        page("/products/", name) + page("/", name).split("<footer>")[0] for name in names
    ]


def pages() -> None:
    for path in ("/", "/category/books/", "/products/", "/cards/"):
        seen[f"first {path}"] = page(path)
        seen[f"cost {path}"] = statements(lambda path=path: page(path))
        assert page(path) == seen[f"first {path}"]
    book = Product.objects.get(name="thing 0")
    book.name = "renamed"
    book.save()
    for path in ("/", "/products/", "/cards/"):
        seen[f"renamed {path}"] = page(path)
    Category.objects.filter(slug="books").update(name="Novels")
    for path in ("/", "/category/books/", "/products/"):
        seen[f"updated {path}"] = page(path)
    Product.objects.filter(name="renamed").invalidated_update(visible=False)
    for path in ("/", "/products/", "/cards/"):
        seen[f"hidden {path}"] = page(path)
    Setting.objects.filter(name="title").update(value="The new shop")
    seen["title"] = [page("/", name) for name in ("red.example", "blue.example")]


def staff() -> None:
    user = User.objects.create(username="ann", is_staff=True)
    seen["staff"] = [page("/category/toys/"), page("/category/toys/", user=user)]
    client = Client()
    client.force_login(user)
    again = lambda: client.get("/category/toys/", headers={"host": "red.example"})  # noqa: E731
    seen["user cost"] = statements(again)
    User.objects.filter(pk=user.pk).update(is_staff=False)
    seen["no staff"] = again().content.decode().strip()


def tenants() -> None:
    seen["tenants"] = [page("/products/"), page("/products/", "blue.example"), page("/")]
    token = host.set("blue.example")
    Product.objects.update(name="blue thing")
    seen["blue"] = page("/products/", "blue.example")
    host.reset(token)
    seen["red cost"] = statements(lambda: page("/products/"))
    seen["red"] = page("/products/")
    names = b" ".join(redis_client.keys())
    seen["prefixes"] = [prefix in names for prefix in (b"red.example:shop", b"blue.example:shop")]


def times() -> None:
    for path in ("/clock/utc/", "/terms/", "/hello/ann/"):
        seen[f"twice {path}"] = [page(path), page(path)]
    views.clock.invalidate("http://red.example/clock/utc/", zone="utc")
    views.terms.invalidate("http://red.example/terms/")
    views.greeting.invalidate("ann")
    for path in ("/clock/utc/", "/terms/", "/hello/ann/"):
        seen[f"again {path}"] = page(path)
    views.greeting.key("ann").set("Hello from the cache")
    seen["set"] = page("/hello/ann/")
    one = views.rates("USD")
    views.rates.invalidate("USD")
    seen["rates"] = [one, views.rates("USD"), views.rates("USD")]


def functions() -> None:
    seen["statistics cost"] = statements(statistics)
    before = statistics()
    user = User.objects.get(username="ann")
    order = Order.objects.create(customer=user, product=Product.objects.get(name="thing 1"))
    after = statistics()
    seen["sold"] = [before["sold"], after["sold"]]
    orders = [Order.objects.get(pk=order.pk) for _ in range(2)]
    seen["customer cost"] = statements(lambda: orders.pop().customer)
    with transaction.atomic():
        Order.objects.update(amount=7)
        inside = statistics()["sold"]
    seen["atomic"] = [inside, statistics()["sold"]]
    seen["permissions cost"] = statements(lambda: Permission.objects.count())
    results: list[Any] = []

    def ask() -> None:
        try:
            results.append(statistics()["sold"])
        finally:
            connections.close_all()

    invalidate_model(Order)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    seen["threads"] = results
    book = Product.objects.create(category=Category.objects.get(slug="toys"), name="saved", price=1)
    with CaptureQueriesContext(connection) as captured:
        Product.objects.get(pk=book.pk)
    seen["saved cost"] = len(captured)


def by_hand() -> None:
    product = Product.objects.get(name="thing 1")
    page("/")
    views.import_prices({"thing 1": "99.00"})
    imported = ["99.00" in page("/")]
    invalidate_obj(product)
    seen["import"] = [*imported, "99.00" in page("/")]
    missed = []
    for drop in (lambda: None, lambda: invalidate_fragment("footer", "red.example")):
        drop()
        before = signals.stats["miss"]
        page("/")
        missed.append(signals.stats["miss"] - before)
    seen["footer"] = missed
    commands = [["shop.product." + str(product.pk)], ["shop.product"], ["shop"], ["all"]]
    for arguments in commands:
        page("/products/")
        call_command("invalidate", *arguments)
        with CaptureQueriesContext(connection) as captured:
            page("/products/")
        seen[f"invalidate {arguments[0].rstrip('0123456789')}"] = bool(len(captured))
    for command in (["cleanfilecache"], ["reapconjs", "--chunk-size=100"]):
        out = io.StringIO()
        call_command(*command, stdout=out)
        seen[command[0]] = bool(out.getvalue())
    invalidate_all()
    seen["signals"] = {
        name: signals.stats[name] > 0
        for name in ("hit", "miss", "invalidated Product", "invalidated all")
    }


def main() -> None:
    setup_test_environment()
    for alias in connections:
        call_command("migrate", database=alias, verbosity=0)
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    for _ in range(2):
        call_command("stock", stdout=io.StringIO())
    for chapter in (hosts, pages, staff, tenants, times, functions, by_hand):
        chapter()
    print(json.dumps(seen))
