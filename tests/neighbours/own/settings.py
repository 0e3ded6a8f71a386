"""Settings for these tests; ``APPS`` in the environment is what to install beside Django's."""

from __future__ import annotations

import os

SECRET_KEY = "not secret"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    *os.environ["APPS"].split(),
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
