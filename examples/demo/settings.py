"""The example's settings with the demo's models."""

from __future__ import annotations

from settings_example import *  # noqa: F403
from settings_example import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "examples.demo"]
