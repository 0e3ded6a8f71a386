"""A complete configuration that runs: every setting of cacheops_lite, explained.

Copy what you need. Most projects need CACHEOPS_REDIS and CACHEOPS, nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

# ----------------------------------------------------------------- Django's own

SECRET_KEY = os.environ.get("SECRET_KEY", "an example; make your own and keep it secret")
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    # First, so that the apps below are cached and tracked from their first query on.
    "cacheops_lite",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
]

#: sqlite, postgres or mysql; the others say where the server is.
DATABASE = os.environ.get("DATABASE", "sqlite")

if DATABASE == "sqlite":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("DATABASE_NAME", str(BASE_DIR / "example.sqlite3")),
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": {
                "postgres": "django.db.backends.postgresql",
                "mysql": "django.db.backends.mysql",
            }[DATABASE],
            "NAME": os.environ.get("DATABASE_NAME", "example"),
            "HOST": os.environ.get("DATABASE_HOST", ""),
            "PORT": os.environ.get("DATABASE_PORT", ""),
            "USER": os.environ.get("DATABASE_USER", ""),
            "PASSWORD": os.environ.get("DATABASE_PASSWORD", ""),
        }
    }

# --------------------------------------------------------------- cacheops_lite

#: Where Redis or Valkey listens: a URL (redis://, rediss:// for TLS, unix://), or a dict of
#: redis-py's options: {"host": "localhost", "port": 6379, "db": 1, "socket_timeout": 0.5}.
CACHEOPS_REDIS = os.environ.get("CACHEOPS_REDIS", "redis://localhost:6379/1")

#: Instead of CACHEOPS_REDIS, where a Sentinel says which server is the primary:
#: CACHEOPS_SENTINEL = {"locations": [("localhost", 26379)], "service_name": "main", "db": 1}

#: A class of redis-py, or its dotted path. For a Redis Cluster (CACHEOPS_REDIS names a node of it):
#: CACHEOPS_CLIENT_CLASS = "redis.cluster.RedisCluster"

#: What may be cached, and for how long (seconds). The most exact pattern wins: "app.model",
#: then "app.*", then "*.*". Writes are tracked for all models whose profile is not None.
CACHEOPS = {
    # Cached without being asked: User.objects.get(...), in views, in the auth middleware, anywhere.
    "auth.user": {"ops": "get", "timeout": 15 * 60},
    # Lists too are cached without being asked. ops: get, fetch, count, exists, aggregate, or "all".
    "auth.*": {"ops": {"get", "fetch"}, "timeout": 60 * 60},
    # Never cached, never tracked: what changes at every request.
    "sessions.*": None,
    # Everything else is cached where the code asks for it: Post.objects.filter(...).cache()
    "*.*": {"timeout": 60 * 60},
}

#: What the profiles above inherit.
CACHEOPS_DEFAULTS = {"timeout": 60 * 60}

#: In front of every key, so that several projects can share one server: "intranet:".
CACHEOPS_PREFIX = os.environ.get("CACHEOPS_PREFIX", "")

#: False: every query asks the database, no result is stored. Switch it off in all processes, or in
#: one that writes nothing: others are not told of its writes.
CACHEOPS_ENABLED = True

#: If Redis cannot be reached when a write commits. True: the write goes on, and this process does
#: not read its tables from the cache until their results were dropped. False: the write is refused
#: before its commit.
CACHEOPS_DEGRADE_ON_FAILURE = True

#: The share of each timeout that chance may take off, so that results stored together do not expire
#: together: 0.1 makes an hour 54 to 60 minutes.
CACHEOPS_JITTER = 0

#: "zstd" or "lz4" to store payloads of 1,024 bytes and more compressed; they need a library.
CACHEOPS_COMPRESSION = None

#: How far a replica of the database that answers reads may lag behind the primary, in seconds.
CACHEOPS_REPLICA_LAG = 0

#: If Redis does not answer: after so many failures in a row it is left alone for a pause (seconds),
#: which each failed attempt doubles, up to the ceiling. Losing it and finding it again are one line
#: each in the log "cacheops_lite", and one signal each, cacheops_lite.signals.cache_reachable.
CACHEOPS_BREAKER = {"failures": 1, "pause": 0.5, "ceiling": 10.0, "jitter": 0.2}

#: Every so many seconds each process adds its counters to a hash in Redis, which
#: ./manage.py cacheops stats reads. None or 0: never.
CACHEOPS_STATS_INTERVAL = 60

#: With "cacheops_lite.contrib.outbox" in INSTALLED_APPS: seconds between looks for invalidations
#: that nobody has delivered, because their process died. None or 0: this process has no outbox.
CACHEOPS_OUTBOX_INTERVAL = 5

#: True: a server that was restarted, or that took over, still has every change that Redis had
#: acknowledged (appendonly yes and appendfsync always), so what it holds is answered at once. By
#: default nothing is trusted that another run of the server has left behind.
CACHEOPS_RESTARTS_KEEP_DATA = False

# ------------------------------------------------------------- seldom needed

#: What pickles results of functions and the like: a module or class with dumps and loads, or its
#: dotted path. Rows of queries are not pickled. None: pickle.
CACHEOPS_SERIALIZER = None

#: Kinds of fields, as in ("TextField",), whose conditions shall not narrow what drops a result.
CACHEOPS_SKIP_FIELDS = ()

#: A result that depends on more alternatives of one table than this depends on any row of it.
CACHEOPS_LONG_DISJUNCTION = 64

#: update() and delete() of more rows than this drop the table's results without looking.
CACHEOPS_LOOKUP_LIMIT = 100

#: A result that shows more rows of a joined table than this depends on any row of it.
CACHEOPS_DYNAMIC_LIMIT = 100

#: How many plans of queries each process remembers.
CACHEOPS_MEMO_SIZE = 4096

#: Where cacheops_lite.file_cache keeps its files, and for how long (seconds).
FILE_CACHE_DIR = "/tmp/cacheops_file_cache"
FILE_CACHE_TIMEOUT = 30 * 24 * 60 * 60
