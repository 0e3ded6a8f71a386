"""No pages: the documentation's views are called by the documentation."""

from __future__ import annotations

urlpatterns: list[object] = []
