"""The settings of the project that the pages speak of; a test says where its servers are."""

from __future__ import annotations

import os
import tempfile

SECRET_KEY = "a project of the documentation"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "blog.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
FOLDER = os.environ.get("DOCUMENTED_FOLDER", tempfile.gettempdir())
DATABASES = {
    alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/{alias}.sqlite3"}
    for alias in ("default", "replica")
}
INSTALLED_APPS = [
    "cacheops_lite",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "blog",
    "shop",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]
CACHEOPS_REDIS = os.environ.get("DOCUMENTED_REDIS", "memory://docs")
CACHEOPS_DEFAULTS = {"timeout": 60 * 60}
CACHEOPS = {"shop.product": {"ops": "all"}, "*.*": {}}
FILE_CACHE_DIR = f"{FOLDER}/files"
