"""The matrix of environments leaves no pair of values out."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from . import matrix, matrix_table
from .documented.blocks import ROOT

NOXFILE = (ROOT / "noxfile.py").read_text()


def test_every_pair_is_tried() -> None:
    """Any two values that can meet do meet in some combination."""
    wanted = {pair for one in matrix.everything() for pair in matrix.pairs(one)}
    tried = {pair for one in matrix.covering() for pair in matrix.pairs(one)}
    assert tried == wanted


def test_it_is_few_and_always_the_same() -> None:
    """A covering array, not the product; CI and developers mean the same by a name."""
    found = list(matrix.covering())
    assert found == list(matrix.covering())
    assert len(set(found)) == len(found) < 30 < len(matrix.everything())
    assert found[0] == tuple(values[0] for values in matrix.DIMENSIONS.values())


def test_what_the_package_says_is_tried() -> None:
    """The versions in pyproject.toml are the versions of the matrix."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = project["classifiers"]
    pythons = {
        c.rpartition(" ")[2] for c in said if c.startswith("Programming Language :: Python :: 3.")
    }
    djangos = {c.rpartition(" ")[2] for c in said if c.startswith("Framework :: Django :: ")}
    assert pythons == set(matrix.DIMENSIONS["python"])
    assert djangos == set(matrix.DIMENSIONS["django"])
    assert project["requires-python"] == f">={min(pythons)}"


def test_the_table_names_every_skip(tmp_path: Path) -> None:
    """One line for each session: what passed, what failed, and why something was not tried."""
    report = tmp_path / "report.json"
    name = "3.13-6.1-sqlite-valkey-newest"
    sessions = [
        {"name": "tests", "signatures": [f"tests({name})"], "result": "success", "reason": None},
        {"name": "tests", "signatures": ["tests(x)"], "result": "skipped", "reason": "no Python"},
        {"name": "lint", "signatures": ["lint"], "result": "failed", "reason": None},
    ]
    report.write_text(json.dumps({"sessions": sessions}))
    (tmp_path / f"{name}.xml").write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="0" skipped="2" time="3.2"/></testsuites>'
    )
    found = matrix_table.lines(report, tmp_path)
    assert found == [
        (f"tests({name})", "success", "6 passed, 1 failures, 2 skipped", "3"),
        ("tests(x)", "SKIPPED", "no Python", ""),
        ("lint", "FAILED", "", ""),
    ]
    assert "tests(x)" in matrix_table.table(found)
    assert matrix_table.main(report, tmp_path) == 1


def test_ci_runs_sessions_that_there_are() -> None:
    """The workflows name sessions of noxfile.py, and together they name all of them."""
    known = set(re.findall(r"@nox\.session\n(?:@.*?\n\)\n)?def (\w+)", NOXFILE, re.DOTALL))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    listed = re.search(r"session: \[(.*)\]", workflow)
    assert listed
    assert known == {"tests", *listed[1].split(", ")}
