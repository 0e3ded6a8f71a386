"""The reference is complete: every setting, option, check, signal, command and name has its entry."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.dispatch import Signal
from django.test import override_settings

import cacheops_lite
from cacheops_lite import conf, signals

from .documented.blocks import ROOT

DOCS = ROOT / "docs"
CONF = (ROOT / "cacheops_lite" / "conf.py").read_text()


def entries(page: str, kind: str) -> dict[str, str]:
    """What a page says of each ``.. kind:: name``: the name and the text below it."""
    text = (DOCS / page).read_text()
    parts = re.split(rf"^\.\. {kind}:: (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def defaults(page: str, kind: str) -> dict[str, Any]:
    """The default that each entry names, as a value."""
    found = {}
    for name, text in entries(page, kind).items():
        match = re.search(r":Default: ``(.+)``", text)
        assert match, f"{name} says no default"
        found[name] = ast.literal_eval(match[1])
    return found


def read_by_conf() -> dict[str, str]:
    """The names of the settings that conf.py reads, each with the field that it fills."""
    calls = [
        node
        for node in ast.walk(ast.parse(CONF))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Settings" and node.keywords
    ]
    return {
        constant.value: str(keyword.arg)
        for call in calls
        for keyword in call.keywords
        for constant in ast.walk(keyword.value)
        if isinstance(constant, ast.Constant)
        and re.fullmatch(r"(CACHEOPS|FILE_CACHE_)\w*", str(constant.value))
    }


def test_every_setting() -> None:
    """What conf.py reads is what the page explains."""
    assert set(entries("reference_settings.rst", "setting")) == set(read_by_conf())


def test_defaults_of_settings() -> None:
    """Defaults on the page are those in force in a project that sets nothing."""
    said = defaults("reference_settings.rst", "setting")
    with override_settings():
        for name in read_by_conf():
            if hasattr(settings, name):
                delattr(settings, name)
        current = conf.current()
        for name, field in read_by_conf().items():
            assert said[name] == getattr(current, field), name


def test_every_option_of_a_profile() -> None:
    """So are the options of profiles, and their defaults."""
    said = defaults("reference_settings.rst", "profile")
    assert set(said) == conf.PROFILE_KEYS
    profile = conf.Profile()
    for name, value in said.items():
        if name != "name":
            known = getattr(profile, name)
            assert value == (tuple(known) if isinstance(known, frozenset) else known), name


def test_every_check() -> None:
    """Every id that a check reports has an entry."""
    sources = [path.read_text() for path in (ROOT / "cacheops_lite").rglob("checks.py")]
    ids = set(re.findall(r'"(cacheops_lite\.[EWI]\d+)"', "".join(sources)))
    assert ids
    assert set(entries("reference_checks.rst", "check")) == ids


def test_every_signal() -> None:
    """Every signal has an entry."""
    known = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert set(entries("reference_calls.rst", "signal")) == known


def test_every_command() -> None:
    """Every management command has an entry."""
    commands = (ROOT / "cacheops_lite" / "management" / "commands").glob("[!_]*.py")
    assert set(entries("reference_calls.rst", "verb")) == {
        f"./manage.py {p.stem}" for p in commands
    }


@pytest.mark.parametrize("name", sorted({*cacheops_lite.__all__} - {"VERSION", "__version__"}))
def test_every_public_name(name: str) -> None:
    """Every name of ``cacheops_lite`` is on the page of calls."""
    text = (DOCS / "reference_calls.rst").read_text()
    if name == "reap_conjs":  # the command says what there is to say
        name = "reapconjs"
    assert re.search(rf"\b{name}\b", text)


def test_every_page_is_reachable() -> None:
    """Every page stands in the table of contents: by name, or by a pattern."""
    index = (DOCS / "index.rst").read_text()
    listed = set(re.findall(r"^   ([\w*\[\]]+)$", index, flags=re.MULTILINE))
    for path in DOCS.glob("*.rst"):
        if path.stem != "index":
            assert any(Path(path.stem).match(pattern) for pattern in listed), path.name
