"""The settings under which mypy reads the package: with every app of it that has models."""

from __future__ import annotations

from settings_example import *  # noqa: F403
from settings_example import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "cacheops_lite.contrib.outbox"]
