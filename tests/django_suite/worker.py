"""One process: one of Django's test packages in one mode, its outcomes written down as JSON.

``python -m tests.django_suite.worker TESTS_FOLDER PACKAGE MODE cached|plain OUT``
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
import traceback
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def main(tests: str, package: str, mode: str, cached: bool, out: str) -> None:
    """Run a package; ``mode`` is "as_is" or "commit"."""
    sys.path.insert(0, tests)
    os.chdir(tests)
    scratch = tempfile.TemporaryDirectory(prefix="django_")
    atexit.register(scratch.cleanup)
    os.environ["TMPDIR"] = tempfile.tempdir = scratch.name
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django_suite.settings"
    if cached:
        from tests import servers

        os.environ["DJANGO_SUITE_REDIS"] = servers.start_valkey().url

    import runtests  # of Django's tests

    if cached:
        runtests.ALWAYS_INSTALLED_APPS.append("cacheops_lite")
    labels, _ = runtests.setup_run_tests(0, "", "", [package])
    recorder = None
    if cached:
        from . import differential

        recorder = differential.install(mode == "commit")
    if mode == "commit":
        commit_for_real(package)
    tests_run = run(labels, recorder)
    report: dict[str, Any] = {"tests": tests_run}
    if recorder is not None:
        report |= {
            "counts": recorder.counts,
            "bypassed": recorder.bypassed,
            "refused": recorder.refused,
        }
    Path(out).write_text(json.dumps(report))


#: Packages whose tests need what ``post_migrate`` makes: permissions, content types, a site.
NEED_POST_MIGRATE = frozenset(
    """admin_changelist admin_custom_urls admin_docs admin_filters admin_inlines admin_ordering
    admin_utils admin_views admin_widgets auth_tests contenttypes_tests flatpages_tests
    generic_inline_admin migrate_signals modeladmin multiple_database redirects_tests
    sitemaps_tests sites_framework sites_tests swappable_models syndication_tests test_client
    view_tests""".split()
)


TRANSACTIONS = frozenset({"BEGIN", "COMMIT", "ROLLBACK"})


def commit_for_real(package: str) -> None:
    """Make ``TestCase`` do what it does on a database without transactions: commit, then flush."""
    from django.contrib.contenttypes.models import ContentType
    from django.test import TestCase, testcases

    for name in ("_databases_support_transactions", "_databases_support_savepoints"):
        setattr(TestCase, name, classmethod(lambda cls: False))
    TestCase._fixture_setup = classmethod(set_up)  # type: ignore[assignment]
    count_without_transactions()
    if package in NEED_POST_MIGRATE:
        return
    call_command = testcases.call_command

    def flush_only(name: str, *args: Any, **options: Any) -> Any:
        if name == "flush":
            # All permissions of all models, after each test, would take most of the time.
            options["inhibit_post_migrate"] = True
            ContentType.objects.clear_cache()
        return call_command(name, *args, **options)

    testcases.call_command = flush_only


def set_up(cls: Any) -> None:
    """Fixtures first, and the class's data in one transaction, as where there are transactions."""
    from django.core.management import call_command
    from django.db import transaction
    from django.test import TransactionTestCase

    names = cls._databases_names(include_mirrors=False)
    try:
        TransactionTestCase._fixture_setup.__func__(cls)
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(transaction.atomic(using=name))
            cls.setUpTestData()
    except BaseException:
        for name in names:  # or every test that follows fails as well
            call_command("flush", verbosity=0, interactive=False, database=name)
        raise


def count_without_transactions() -> None:
    """Let ``assertNumQueries`` take the BEGIN and COMMIT that ``TestCase`` does not have."""
    from django.test import testcases, utils

    counting = testcases._AssertNumQueriesContext
    leave = counting.__exit__

    def lenient(self: Any, kind: Any, value: Any, trace: Any) -> None:
        utils.CaptureQueriesContext.__exit__(self, kind, value, trace)
        asked = [each["sql"] for each in self.captured_queries]
        if kind is None and len([sql for sql in asked if sql not in TRANSACTIONS]) == self.num:
            return
        leave(self, kind, value, trace)

    counting.__exit__ = lenient


def run(labels: list[str], recorder: Any) -> dict[str, list[str]]:
    """Test id -> [outcome, details]."""
    from django.test.runner import DiscoverRunner

    outcomes: dict[str, list[str]] = {}

    def take(current: str) -> None:
        for name, difference in recorder.taken() if recorder is not None else ():
            details = outcomes.get(name or current, ["", ""])[1]
            outcomes[name or current] = ["stale", f"{difference}\n{details}"]

    class Result(unittest.TestResult):
        def note(self, test: Any, outcome: str, details: str = "") -> None:
            known = outcomes.get(test.id(), ["passed", ""])
            if known[0] not in ("failed", "error", "stale"):
                outcomes[test.id()] = [outcome, details]

        def addSuccess(self, test: Any) -> None:
            self.note(test, "passed")

        def addFailure(self, test: Any, err: Any) -> None:
            self.note(test, "failed", text_of(err))

        def addError(self, test: Any, err: Any) -> None:
            self.note(test, "error", text_of(err))

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            if err is not None:
                self.note(test, "failed", f"{subtest}\n{text_of(err)}")

        def addSkip(self, test: Any, reason: str) -> None:
            self.note(test, "skipped", reason)

        def addExpectedFailure(self, test: Any, err: Any) -> None:
            self.note(test, "expected failure")

        def addUnexpectedSuccess(self, test: Any) -> None:
            self.note(test, "failed", "unexpected success")

        def stopTest(self, test: Any) -> None:
            super().stopTest(test)
            # What setUpClass found is put down to the first test after it.
            take(test.id())

    class Runner(DiscoverRunner):
        def get_resultclass(self) -> type[unittest.TestResult]:
            return Result

        def run_suite(self, suite: Any, **kwargs: Any) -> unittest.TestResult:
            result = Result()
            suite.run(result)
            return result

    Runner(verbosity=0, interactive=False, parallel=1).run_tests(labels)
    take("after the last test")
    return outcomes


def text_of(err: Any) -> str:
    return "".join(traceback.format_exception(*err))[-6000:]


if __name__ == "__main__":
    folder, name, how, what, target = sys.argv[1:]
    main(folder, name, how, what == "cached", target)
