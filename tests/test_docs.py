"""The documentation is true: every code block of README and docs runs, or is declared a fragment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from .documented.blocks import FRAGMENTS, ROOT, blocks, pages
from .documented.tutorial import Reader

PAGES = [path.relative_to(ROOT).as_posix() for path in pages()]
TUTORIAL = "docs/tutorial.rst"

#: Pages that are wrong, and what is to be said of them.
WRONG = [
    (".. code-block:: python\n\n   from blog.models import Pots\n", "cannot import name"),
    (
        ".. code-block:: python\n\n   from blog.models import Post\n"
        "   list(Post.objects.all())  # no queries\n",
        "0 queries promised, 1 made",
    ),
    (".. code-block:: pycon\n\n   >>> 1 + 1\n   3\n", "Expected:"),
    (".. code-block:: console\n\n   $ make coffee\n", "the Makefile has no"),
    (".. code-block:: console\n\n   $ ./manage.py invalidate blog.pots\n", "blog.pots"),
    (".. code-block:: console\n\n   $ pip install cacheops-lite[milk]\n", "no extra"),
    (".. code-block:: console\n\n   $ grep nothing models.py\n", "grep nothing"),
    (".. code-block:: python\n   :caption: settings.py\n\n   CACHEOPS = {'x': {}}\n", "E001"),
    (".. code-block:: html+django\n\n   {% load cacheops %}{% cached %}\n", "cached"),
    (".. code-block:: cobol\n\n   MOVE 1 TO X.\n", "declare it as text"),
    (".. code-blok:: python\n\n   x\n", "code-blok"),
]


def run_pages(*names: str) -> subprocess.CompletedProcess[str]:
    """Run the blocks of pages in an interpreter and a project of their own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.documented.page", *names],
        cwd=ROOT,
        env={
            **{k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
            "DOCUMENTED_REDIS": settings.CACHEOPS_REDIS,
        },
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in PAGES
        if name != TUTORIAL
        and any(block.language not in FRAGMENTS for block in blocks(ROOT / name))
    ],
)
def test_blocks_of(name: str) -> None:
    """Each block of a page does what it shows, in the order of the page."""
    done = run_pages(name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tutorial(tmp_path: Path) -> None:
    """Whoever follows the tutorial from the first command to the last sees what it says."""
    Reader(tmp_path, settings.CACHEOPS_REDIS).follow(ROOT / TUTORIAL)


def test_wrong_blocks_are_found(tmp_path: Path) -> None:
    """This test can fail: for every kind of block something that is not so is reported."""
    names = []
    for number, (text, _) in enumerate(WRONG):
        page = tmp_path / f"page{number}.rst"
        page.write_text(f"Title\n=====\n\n{text}")
        names.append(str(page))
    done = run_pages(*names)
    assert done.returncode == len(WRONG), done.stdout + done.stderr
    told = re.split(r"^/.*page\d+\.rst: ", done.stdout + done.stderr, flags=re.MULTILINE)[1:]
    for (_, complaint), said in zip(WRONG, told, strict=True):
        assert complaint in said


def test_every_page_has_its_blocks() -> None:
    """The pages are found, and blocks in them."""
    assert {"README.rst", "docs/index.rst"} <= set(PAGES)
    assert sum(1 for name in PAGES for _ in blocks(ROOT / name)) > 30


def test_the_readme_is_short() -> None:
    """Whoever opens the project reads its first page to the end: under 200 lines."""
    assert len((ROOT / "README.rst").read_text().splitlines()) < 200
