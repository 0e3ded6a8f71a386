"""How Sphinx builds the documentation: ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "documented" / "project")]

# The docstrings of the reference are read from the package, which needs Django to be set up.
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

import django  # noqa: E402

django.setup()

from cacheops_lite import __version__  # noqa: E402

project = "cacheops_lite"
author = "The cacheops-lite contributors"
project_copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest"]
root_doc = "index"
exclude_patterns = ["_build"]
highlight_language = "console"
default_role = "any"
nitpicky = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
toc_object_entries = False

html_theme = "furo"
html_title = f"cacheops_lite {__version__}"
html_static_path = ["_static"]
html_css_files = ["drawings.css"]
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5d4b", "color-brand-content": "#0b5d4b"},
    "dark_css_variables": {"color-brand-primary": "#5fd3b3", "color-brand-content": "#5fd3b3"},
}


def setup(app: Any) -> None:
    """The kinds of things that only this project has, to be named and referred to."""
    for kind, title in (
        ("setting", "setting; %s"),
        ("profile", "profile option; %s"),
        ("check", "check; %s"),
        ("signal", "signal; %s"),
        ("verb", "verb; %s"),
    ):
        app.add_object_type(kind, kind, title)
