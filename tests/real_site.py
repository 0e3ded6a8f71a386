"""A small site for real web servers: cached pages, sync and async, and a form that writes."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

from cacheops_lite import cached_as, cached_view, cached_view_as

from .models import Category


def titles() -> list[str]:
    return [row.title for row in Category.objects.order_by("pk").cache()]


def _page(found: list[str]) -> JsonResponse:
    made = uuid.uuid4().hex  # tells whether the page was made anew, in whichever process
    return JsonResponse({"titles": found}, headers={"X-Made": made, "ETag": f'"{made}"'})


@cached_view_as(Category)
def page(request: HttpRequest) -> HttpResponse:
    return _page(titles())


@cached_view_as(Category, timeout=60)
async def apage(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return _page([row.title async for row in Category.objects.order_by("pk").cache()])


@cached_as(Category)
def total() -> list[Any]:
    return [Category.objects.cache().count(), uuid.uuid4().hex]


def twice(request: HttpRequest) -> JsonResponse:
    """Reads, writes and reads again in one request."""
    before = [titles(), total()[0]]
    again = [titles(), total()[0]]
    Category.objects.create(title=request.GET["title"], slug=uuid.uuid4().hex)
    return JsonResponse({"before": before, "again": again, "after": [titles(), total()[0]]})


@require_POST
def write(request: HttpRequest) -> HttpResponse:
    Category.objects.create(title=request.GET["title"], slug=uuid.uuid4().hex)
    return HttpResponse(status=201)


@cached_view(60)
def cookie(request: HttpRequest) -> HttpResponse:
    response = _page([])
    response.set_cookie("who", uuid.uuid4().hex)
    return response


@cached_view(60)
def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse([uuid.uuid4().hex.encode() for _ in range(3)])


@cached_view(60, vary_headers="Accept-Language")
def varying(request: HttpRequest) -> HttpResponse:
    return _page([request.headers.get("Accept-Language", "")])


urlpatterns = [
    path("page/", page),
    path("apage/", apage),
    path("twice/", twice),
    path("write/", write),
    path("cookie/", cookie),
    path("stream/", stream),
    path("varying/", varying),
]
