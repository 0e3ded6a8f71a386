"""The shop's settings. What leads to its servers comes from the environment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

DATA = Path(os.environ.get("SHOP_DATA") or Path(tempfile.gettempdir(), "cacheops_lite_shop"))
DATA.mkdir(exist_ok=True)

SECRET_KEY = os.environ.get("SECRET_KEY", "an example; make your own and keep it secret")
DEBUG = True
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "examples.shop.urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DATA / "red.db")},
    "blue": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DATA / "blue.db")},
}
DATABASE_ROUTERS = ["examples.shop.tenants.TenantRouter"]

INSTALLED_APPS = [
    "cacheops_lite",  # the one line: it was "cacheops"
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "examples.shop.apps.ShopConfig",
]

MIDDLEWARE = [
    "examples.shop.tenants.TenantMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

TEMPLATES = [
    {"BACKEND": "django.template.backends.jinja2.Jinja2", "APP_DIRS": True, "OPTIONS": {
        "extensions": ["cacheops_lite.jinja2.cache"],
    }},
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
        "context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
        ],
    }},
]  # fmt: skip

# ------------------------------------------------------------------- cacheops

CACHEOPS_REDIS = os.environ.get("CACHEOPS_REDIS", "redis://localhost:6379/1")

CACHEOPS_DEFAULTS = {"timeout": 60 * 60}
CACHEOPS = {
    "auth.user": {"ops": "get", "timeout": 60 * 15},  # request.user, order.customer
    "auth.*": {"ops": ("fetch", "get")},
    "auth.permission": {"ops": "all"},
    "shop.category": {"ops": "all", "cache_on_save": "slug"},
    "shop.product": {"ops": {"get", "count"}, "cache_on_save": True},
    "shop.setting": {"ops": "get", "local_get": True, "timeout": 60 * 60 * 24},
    "shop.visit": None,
    "sessions.*": None,
    "*.*": {},
}

CACHEOPS_PREFIX = "examples.shop.tenants.cacheops_prefix"
CACHEOPS_DEGRADE_ON_FAILURE = True

FILE_CACHE_DIR = str(DATA / "files")
FILE_CACHE_TIMEOUT = 60 * 60 * 24
