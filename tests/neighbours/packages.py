"""Which packages are run, which of their tests, and what of that is not to be expected."""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    """One package, and the tests that are run: those of its source distribution, or ours."""

    name: str
    #: Its settings module, or ``module:name`` of a dict or of what returns one; empty if its
    #: conftest.py configures Django.
    settings: str
    #: What pytest is given, in the folder of the sources.
    targets: tuple[str, ...]
    #: What its tests need beside itself.
    needs: tuple[str, ...] = ()
    #: Where it is run, within its sources; or in ``own``, if it brings no tests and they are ours.
    folder: str = "."
    own: bool = False
    environment: dict[str, str] = {}
    #: Its migrations are run: its tests need what these write. Without, tables are made faster.
    migrations: bool = False
    #: A version older than the newest: the last whose source distribution has its tests.
    version: str = ""
    #: Runs for many minutes: only if it is asked for by name.
    long: bool = False


PACKAGES = (
    Package("django-filter", "tests.settings", ("tests",), ("djangorestframework", "pytz")),
    Package("django-treebeard", "tests.settings", ("tests",), ("pytest-mock",)),
    Package(
        "django-model-utils", "tests.settings", ("tests",), ("time-machine",),
        environment={"SQLITE": "1"},
    ),
    Package("django-guardian", "guardian.testapp.testsettings", ("guardian/testapp/tests",),
            ("django-environ",)),
    Package("django-reversion", "test_project.settings", ("test_app/tests",), folder="tests"),
    Package(
        "djangorestframework", "", ("tests",),
        ("dj-database-url", "django-guardian", "django-filter", "pytz", "inflection", "PyYAML",
         "uritemplate"),
    ),
    Package("django-taggit", "tests.settings", ("tests",), ("djangorestframework",),
            migrations=True, version="5.0.1"),
    Package("django-simple-history", "runtests:get_default_settings", ("simple_history/tests",)),
    Package("django-auditlog", "test_settings", (".",), ("freezegun", "psycopg[binary]"),
            folder="auditlog_tests"),
    Package("django-ordered-model", "tests.settings", ("tests",), ("djangorestframework",)),
    Package("django-safedelete", "safedelete.tests.settings", ("safedelete/tests",)),
    Package(
        "django-import-export", "settings", ("core/tests",),
        ("tablib[all]", "chardet<6", "pytz", "psycopg[binary]", "memory-profiler",
         "django-extensions"),
        folder="tests",
    ),
    Package("django-constance", "tests.settings", ("tests",)),
    Package("easy-thumbnails", "easy_thumbnails.tests.settings", ("easy_thumbnails/tests",),
            ("testfixtures",)),
    Package("django-organizations", "", ("tests",),
            ("django-extensions", "django-autoslug", "mock-django")),
    Package("django-mptt", "settings", ("nested",), own=True, environment={"APPS": "mptt nested"}),
    Package("django-polymorphic", "settings", ("beasts",), own=True,
            environment={"APPS": "polymorphic beasts"}),
    Package("django-tree-queries", "settings", ("trees",), own=True,
            environment={"APPS": "tree_queries trees"}),
    Package(
        "django-allauth", "tests.projects.regular.settings",
        ("tests/apps/account", "tests/apps/headless", "tests/apps/idp", "tests/apps/mfa",
         "tests/apps/usersessions"),
        ("django-allauth[mfa,socialaccount,openid,saml,steam,headless,idp-oidc]", "django-ninja",
         "djangorestframework"),
        long=True,
    ),
    Package(
        "django-cms", "cms.tests.settings", ("cms/tests",),
        ("dj-database-url", "django-formtools", "djangocms-admin-style", "djangocms-text",
         "Pillow", "iptools", "mock", "pyflakes", "django-app-helper"),
        long=True,
    ),
    Package(
        "wagtail", "wagtail.test.settings",
        ("wagtail/tests", "wagtail/snippets/tests", "wagtail/admin/tests/test_page_chooser.py",
         "wagtail/contrib/redirects/tests", "wagtail/contrib/search_promotions/tests.py"),
        ("freezegun", "Jinja2", "django-pattern-library", "responses", "factory-boy",
         "wagtail-factories"),
        migrations=True, long=True,
    ),
)  # fmt: skip

#: Tests that fail under the cache for a reason that is no mistake of the cache's:
#: (package, part of the test's name, reason).
EXCEPTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "django-guardian",
        "IndexVsNoIndexPerformanceTestCase",
        "asserts times; here each read is made twice",
    ),
    (
        "wagtail",
        "TestSpecificQuery::",
        "its iterable asks by querysets of its own; on a miss the rows that it leaves are asked too",
    ),
)

#: Tests that fail without the cache, too, and why.
BASE: tuple[tuple[str, str, str], ...] = (
    (
        "django-model-utils",
        "test_save_with_args",
        "calls save() with positional arguments, which Django 6 has no more",
    ),
    (
        "django-model-utils",
        "test_join_manager.py::",
        "creates its temporary table by two statements at once, which SQLite refuses",
    ),
    (
        "django-simple-history",
        "test_models.py::",
        "a test before it defines a model without a table; its own runner takes another order",
    ),
    (
        "django-import-export",
        "CustomizedMediaStorageTestDjango",
        "names its own module as tests.core, which is this project's tests here",
    ),
    (
        "django-cms",
        "test_apphook_does_not_crash_django_checks",
        "reads a database it does not name",
    ),
    ("django-allauth", "idp/oidc/test_device.py", "the newest oauthlib asks for one method more"),
    (
        "django-allauth",
        "test_accounts_redirect_async_ctx",
        "a coroutine; pytest-asyncio is off here",
    ),
    (
        "wagtail",
        "test_audit_log.py::test_hook",
        "a receiver within a test's module, which pytest takes for a test",
    ),
)

#: Packages whose use of the ORM is worth a run, but whose tests cannot be run, and why.
WANTED: dict[str, str] = {
    "django-modelcluster": "no tests in its source distribution; Wagtail's tests use it",
    "django-oscar": "no tests in its source distribution, only their factories",
    "feincms": "no tests in its source distribution",
    "django-activity-stream": "tests without the settings and the app that they need",
    "django-parler": "tests without settings",
    "django-waffle": "tests without the models of their app",
    "django-money": "tests without the models of their app",
    "django-sortedm2m": "does not know Django 5.1 and later",
    "django-extensions": "its tests do not know Django 6.0 and later",
}
