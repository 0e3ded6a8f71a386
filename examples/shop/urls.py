"""Where the pages are."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("", views.index),
    path("category/<slug:slug>/", views.category),
    path("products/", views.product_list),
    path("cards/", views.cards),
    path("clock/<str:zone>/", views.clock),
    path("terms/", views.terms),
    path("report/", views.report),
    path("hello/<str:name>/", views.hello),
]
