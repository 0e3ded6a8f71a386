"""Settings that cannot be meant are errors that say what to write, in the check and at first use."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from cacheops_lite import conf

from .acceptance.tools import MANUAL, messages


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CACHEOPS_REPLICA_LAG", "5", "a number, 0 or more"),
        ("CACHEOPS_REPLICA_LAG", -1, "a number, 0 or more"),
        ("CACHEOPS_REPLICA_LAG", float("inf"), "a number, 0 or more"),
        ("CACHEOPS_REPLICA_LAG", None, "a number, 0 or more"),
        ("CACHEOPS_LOOKUP_LIMIT", 1.5, "a whole number, 0 or more"),
        ("CACHEOPS_DYNAMIC_LIMIT", -1, "a whole number, 0 or more"),
        ("CACHEOPS_LONG_DISJUNCTION", 0, "a whole number, 1 or more"),
        ("CACHEOPS_MEMO_SIZE", 0, "a whole number, 1 or more"),
        ("CACHEOPS_MEMO_SIZE", True, "a whole number, 1 or more"),
        ("FILE_CACHE_TIMEOUT", "month", "a whole number, 0 or more"),
        ("CACHEOPS_STATS_INTERVAL", "60", "seconds"),
        ("CACHEOPS_STATS_INTERVAL", -1, "seconds"),
        ("CACHEOPS_OUTBOX_INTERVAL", True, "seconds"),
    ],
)
def test_numbers(settings: Any, name: str, value: Any, words: str) -> None:
    """A number that is none, or out of range, is named with what it must be and what it is."""
    settings.CACHEOPS = MANUAL
    setattr(settings, name, value)
    (message,) = messages()
    assert message.id == "cacheops_lite.E001"
    assert all(part in message.msg for part in (name, words, repr(value)))
    with pytest.raises(ImproperlyConfigured, match=name):
        conf.current()


@pytest.mark.parametrize("name", ["CACHEOPS_STATS_INTERVAL", "CACHEOPS_OUTBOX_INTERVAL"])
@pytest.mark.parametrize("value", [None, 0, False])
def test_never(settings: Any, name: str, value: Any) -> None:
    """What is done now and then can be switched off in each way that comes to mind."""
    setattr(settings, name, value)
    assert getattr(conf.current(), name.removeprefix("CACHEOPS_").lower()) is None
