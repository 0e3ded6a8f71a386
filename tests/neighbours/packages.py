"""Which packages are run, which of their tests, and what of that is not to be expected."""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    """One package whose source distribution has its tests."""

    name: str
    #: Its settings module; empty if its conftest.py configures Django.
    settings: str
    #: What pytest is given, in the folder of the sources.
    targets: tuple[str, ...]
    #: What its tests need beside itself.
    needs: tuple[str, ...] = ()
    #: Where it is run, within its sources.
    folder: str = "."
    environment: dict[str, str] = {}
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
    Package(
        "wagtail", "wagtail.test.settings",
        ("wagtail/tests/test_page_model.py", "wagtail/tests/test_page_queryset.py",
         "wagtail/tests/test_collection_model.py", "wagtail/tests/test_page_permissions.py",
         "wagtail/tests/test_workflow_model.py", "wagtail/tests/test_revision_model.py",
         "wagtail/tests/test_reference_index.py", "wagtail/tests/test_sites.py"),
        ("freezegun", "Jinja2", "django-pattern-library", "responses"),
        long=True,
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
