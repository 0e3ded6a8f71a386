"""Settings for Django's own tests: its example's, with every model and every op cached.

The environment says where the servers are; ``worker.py`` sets it.
"""

from __future__ import annotations

import os
from pathlib import Path

from test_sqlite import *  # noqa: F403 - of Django's tests
from test_sqlite import DATABASES

CACHEOPS = {"*.*": {"ops": "all", "timeout": 60}}
CACHEOPS_REDIS = os.environ.get("DJANGO_SUITE_REDIS", "")

if folder := os.environ.get("DJANGO_SUITE_POSTGRES"):
    from tests.databases import postgres_settings

    DATABASES = {
        "default": postgres_settings(Path(folder), "suite_default"),
        "other": postgres_settings(Path(folder), "suite_other"),
    }
