"""Set up Django on a test's databases and server, for programs that import us rather than run us.

Whoever imports this has the cache used and its sockets open before it forks, as with ``--preload``.
"""

from __future__ import annotations

import json
import os

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
for alias, name in json.loads(os.environ["CACHEOPS_TEST_NAMES"]).items():
    settings.DATABASES[alias]["NAME"] = name
settings.CACHEOPS = {"*.*": {"timeout": 60}}
settings.CACHEOPS_REDIS = os.environ["CACHEOPS_TEST_URL"]
django.setup()

from django.db import connections  # noqa: E402

from tests.faults import work  # noqa: E402

work.read(1)
connections.close_all()
