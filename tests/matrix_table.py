"""One table of what ``nox`` did: ``python -m tests.matrix_table REPORT RESULTS``.

The report is nox's own (``--report``); the results are pytest's XML, one file for each combination.
What was skipped stands in the table with its reason. Ends with 1 if something failed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as etree


class Line(NamedTuple):
    """One line of the table."""

    session: str
    result: str
    tests: str
    seconds: str


def counted(path: Path) -> tuple[str, str]:
    """``812 passed, 3 skipped`` and the seconds, of pytest's XML."""
    if not path.exists():
        return "", ""
    suites = list(etree.parse(path).getroot().iter("testsuite"))
    numbers = {
        name: sum(int(suite.get(name, 0)) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    }
    passed = numbers["tests"] - numbers["failures"] - numbers["errors"] - numbers["skipped"]
    said = [f"{passed} passed"]
    said += [
        f"{numbers[name]} {name}" for name in ("failures", "errors", "skipped") if numbers[name]
    ]
    return ", ".join(said), f"{sum(float(suite.get('time', 0)) for suite in suites):.0f}"


def lines(report: Path, results: Path) -> list[Line]:
    """The sessions in the order in which they ran."""
    found = []
    for session in json.loads(report.read_text())["sessions"]:
        name = str(session["signatures"][0] if session["signatures"] else session["name"])
        combination = name[name.find("(") + 1 : -1] if "(" in name else ""
        tests, seconds = counted(results / f"{combination}.xml")
        result = session["result"].upper() if session["result"] != "success" else "success"
        found.append(Line(name, result, tests or str(session.get("reason") or ""), seconds))
    return found


def table(found: list[Line]) -> str:
    """The lines under a heading, in columns."""
    heading = Line("session", "result", "tests, or why not", "s")
    widths = [max(map(len, column)) for column in zip(heading, *found, strict=True)]
    rows = [heading, Line(*("-" * width for width in widths)), *found]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(report: Path, results: Path) -> int:
    """Print the table; the exit code."""
    found = lines(report, results)
    print(table(found))
    count = {word: sum(line.result == word for line in found) for word in ("SKIPPED", "FAILED")}
    print(f"\n{len(found)} sessions, {count['FAILED']} failed, {count['SKIPPED']} skipped")
    return bool(count["FAILED"] or any(line.result == "ABORTED" for line in found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
