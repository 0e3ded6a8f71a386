"""How much is explored, and a table of it at the end of the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from .explore import Report

#: CACHEOPS_SIM=long also explores the casts that take hours.
LONG = os.environ.get("CACHEOPS_SIM") == "long"

_REPORTS = pytest.StashKey[dict[str, Report]]()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Demons make the protocol complain all the time."""
    logger = logging.getLogger("cacheops_lite")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Iterator[Report]:
    """To be filled with what was explored."""
    report = Report()
    yield report
    reports = request.config.stash.setdefault(_REPORTS, {})
    reports[request.node.name] = report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    reports = config.stash.get(_REPORTS, {})
    if not reports:
        return
    terminalreporter.section("simulated states")
    for name, report in reports.items():
        more = "" if report.complete else "  (not all)"
        terminalreporter.write_line(f"{report.states:10,}  {name}{more}")
    terminalreporter.write_line(f"{sum(one.states for one in reports.values()):10,}  in all")
