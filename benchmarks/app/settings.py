"""Settings of one worker: the peer, the database and the server are told by the environment."""

from __future__ import annotations

import os

PEER = os.environ["BENCH_PEER"]
REDIS = os.environ["BENCH_REDIS"]

SECRET_KEY = "of no value"
USE_TZ = True
TIME_ZONE = "UTC"

INSTALLED_APPS = ["benchmarks.app"]

if os.environ["BENCH_DATABASE"] == "postgres":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["BENCH_DATABASE_HOST"],
            "USER": "cacheops",
            "NAME": os.environ["BENCH_DATABASE_NAME"],
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["BENCH_DATABASE_NAME"],
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                # The disk is not what is measured.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
            },
        }
    }

PROFILES = {"bench.*": {"ops": "all", "timeout": 60 * 60}}

if PEER in ("cacheops", "insideout"):
    INSTALLED_APPS.insert(0, "cacheops")
    CACHEOPS_REDIS = REDIS
    CACHEOPS = PROFILES
    CACHEOPS_INSIDEOUT = PEER == "insideout"
elif PEER == "cachalot":
    INSTALLED_APPS.insert(0, "cachalot")
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS}
    }
elif PEER == "ours":
    INSTALLED_APPS.insert(0, "cacheops_lite")
    CACHEOPS_REDIS = REDIS
    CACHEOPS = PROFILES
