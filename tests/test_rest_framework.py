"""Views of Django REST framework are cached whole, or by method before they are rendered."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rest_framework")

from django.test import RequestFactory, override_settings
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import ReadOnlyModelViewSet

from cacheops_lite import cached_view, cached_view_as

from .models import Category

pytestmark = pytest.mark.django_db(transaction=True)

factory = RequestFactory()


class PlainRenderer(BaseRenderer):
    media_type = "text/plain"
    format = "txt"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return repr(data).encode()


@pytest.fixture(autouse=True)
def _no_users() -> Any:
    defaults = {"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None}
    with override_settings(REST_FRAMEWORK=defaults):
        yield


class Counting(APIView):
    renderer_classes = [JSONRenderer, PlainRenderer]
    calls = 0

    def get(self, request: Any, number: int = 0) -> Response:
        type(self).calls += 1
        return Response({"calls": self.calls}, headers={"X-A": "1"})


def shown(view: Any, *args: Any, **headers: Any) -> bytes:
    response = view(factory.get("/hi", **headers), *args)
    response.render()
    assert response.headers["X-A"] == "1"
    content: bytes = response.content
    return content


def test_whole_views() -> None:
    """What as_view() gives is stored rendered, with its type and headers; Accept tells apart."""

    class Own(Counting):
        pass

    view = cached_view(60)(Own.as_view())
    assert shown(view) == b'{"calls":1}'  # learned to vary on Accept
    assert [shown(view), shown(view)] == [b'{"calls":2}'] * 2
    assert shown(view, HTTP_ACCEPT="text/plain") == b"{'calls': 3}"
    assert shown(view) == b'{"calls":2}'
    response = view(factory.get("/hi"))
    assert (response.headers["Content-Type"], response.data) == ("application/json", {"calls": 2})


def test_methods() -> None:
    """A method's response is stored before it is rendered, and negotiated for each request."""

    class Own(Counting):
        @cached_view(60)
        def get(self, request: Any, number: int = 0) -> Response:
            return super().get(request, number)

    view = Own.as_view()
    for _ in range(2):
        assert shown(view) == b'{"calls":1}'
        assert shown(view, HTTP_ACCEPT="text/plain") == b"{'calls': 1}"
        assert shown(view, 7) == b'{"calls":2}'


def test_viewsets() -> None:
    """A viewset class can be decorated; it is invalidated with its model."""

    class CategorySerializer(ModelSerializer):  # type: ignore[type-arg]
        class Meta:
            model = Category
            fields = ["title"]

    @cached_view_as(Category)
    class Categories(ReadOnlyModelViewSet):  # type: ignore[type-arg]
        queryset = Category.objects.order_by("pk")
        serializer_class = CategorySerializer
        renderer_classes = [JSONRenderer]

    one = Category.objects.create(title="a", slug="a")
    many, single = Categories.as_view({"get": "list"}), Categories.as_view({"get": "retrieve"})
    for _ in range(3):
        assert many(factory.get("/")).render().content == b'[{"title":"a"}]'
        assert single(factory.get("/1"), pk=one.pk).render().content == b'{"title":"a"}'
    one.title = "b"
    one.save()
    assert many(factory.get("/")).render().content == b'[{"title":"b"}]'
    assert single(factory.get("/1"), pk=one.pk).render().content == b'{"title":"b"}'


def test_errors_are_not_stored() -> None:
    """An exception that REST framework turns into a response is not kept."""

    class Own(Counting):
        def get(self, request: Any, number: int = 0) -> Response:
            from rest_framework.exceptions import NotFound

            type(self).calls += 1
            raise NotFound

    view = cached_view(60)(Own.as_view())
    assert [view(factory.get("/hi")).status_code for _ in range(3)] == [404] * 3
    assert Own.calls == 3
