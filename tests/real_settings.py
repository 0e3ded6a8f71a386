"""The settings of the site that real web servers run: those of the tests, on the tests' database."""

from __future__ import annotations

import os

from .settings import *  # noqa: F403
from .settings import DATABASES

DATABASES["default"]["NAME"] = os.environ["CACHEOPS_TEST_DATABASE_NAME"]
ROOT_URLCONF = "tests.real_site"
ALLOWED_HOSTS = ["127.0.0.1"]
MIDDLEWARE = [
    "cacheops_lite.middleware.RequestScopeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
