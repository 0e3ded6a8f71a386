"""The reference is complete: every setting, option, check, signal, command and name has its entry."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import BaseCommand, find_commands, load_command_class
from django.db.models import QuerySet
from django.dispatch import Signal
from django.test import override_settings

import cacheops_lite
from cacheops_lite import conf, signals, testing
from cacheops_lite.core.plans import Outcome
from cacheops_lite.functions.options import Options
from cacheops_lite.orm import patch

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


def test_every_argument_of_a_signal() -> None:
    """Each entry of a signal names what receivers get."""
    said = entries("reference_calls.rst", "signal")
    sent = {name: set[str]() for name in said}
    for path in (ROOT / "cacheops_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = ast.unparse(node.func.value).removeprefix("signals.")
                if name in sent and "send" in node.func.attr:
                    sent[name] |= {str(keyword.arg) for keyword in node.keywords}
    for name, arguments in sent.items():
        assert arguments > {"sender"}, name
        for argument in arguments:
            assert f"``{argument}``" in said[name], f"{argument} of {name}"


def test_every_command() -> None:
    """Every management command has an entry."""
    commands = (ROOT / "cacheops_lite" / "management" / "commands").glob("[!_]*.py")
    assert set(entries("reference_calls.rst", "verb")) == {
        f"./manage.py {p.stem}" for p in commands
    }


@pytest.mark.parametrize("name", sorted(find_commands(str(ROOT / "cacheops_lite" / "management"))))
def test_every_option_of_a_command(name: str) -> None:
    """So have its subcommands and options, but for those of a command that does nothing."""
    said = entries("reference_calls.rst", "verb")[f"./manage.py {name}"]
    if "not needed" in said:
        return
    command = load_command_class("cacheops_lite", name)
    parser = command.create_parser("manage.py", name)
    theirs = BaseCommand().create_parser("manage.py", "x")._option_string_actions
    for where, options in words_of(parser):
        for word in options - set(theirs):
            assert re.search(rf"{re.escape(word)}\b", said), f"{where} {word}"


def words_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, set[str]]]:
    """The options of a parser, the names and the options of its subcommands."""
    yield parser.prog, {o for o in parser._option_string_actions if o.startswith("--")}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield parser.prog, set(action.choices)
            for inner in action.choices.values():
                yield from words_of(inner)


def test_every_method_of_querysets() -> None:
    """What querysets and managers are given has an entry, and type checkers know it."""
    text = (DOCS / "reference_calls.rst").read_text()
    said = set(re.findall(r"^\.\. py:method:: QuerySet\.(\w+)", text, flags=re.MULTILINE))
    given = {
        name
        for target, name, before in patch._installed
        if target is QuerySet and before is patch._MISSING and not name.startswith("_")
    }
    assert said == given
    tree = ast.parse((ROOT / "cacheops_lite" / "contrib" / "typed.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and len(node.body) > 1:
            known = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
            assert known == said, node.name


def test_every_option_of_decorators() -> None:
    """Sphinx shows the fields of ``Options`` that have a comment: all of them have one."""
    lines = (ROOT / "cacheops_lite" / "functions" / "options.py").read_text().splitlines()
    for field in dataclasses.fields(Options):
        (number,) = [n for n, line in enumerate(lines) if line.startswith(f"    {field.name}: ")]
        assert lines[number - 1].startswith("    #: "), field.name


def test_every_help_for_tests() -> None:
    """What ``cacheops_lite.testing`` offers has an entry, and so have the fixtures in the guide."""
    text = (
        (DOCS / "reference_calls.rst").read_text().partition("currentmodule:: cacheops_lite.t")[2]
    )
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)", text, re.MULTILINE)) == set(testing.__all__)
    guide = (DOCS / "guide_testing.rst").read_text()
    source = (ROOT / "cacheops_lite" / "testing" / "pytest_plugin.py").read_text()
    for name in re.findall(r"^def ([a-z]\w+)\(.*Iterator", source, re.MULTILINE):
        assert re.search(rf"\b{name}\b", guide), name


def test_every_contrib() -> None:
    """Each module that is there to be named in settings or configurations is on some page."""
    text = "".join(path.read_text() for path in DOCS.glob("*.rst"))
    for path in (ROOT / "cacheops_lite" / "contrib").iterdir():
        if path.stem.strip("_") and not path.name.startswith("__"):
            assert f"cacheops_lite.contrib.{path.stem}" in text


def test_the_example_has_every_setting() -> None:
    """``settings_example.py`` explains all settings, those that few need in comments."""
    text = (ROOT / "settings_example.py").read_text()
    for name in read_by_conf():
        assert re.search(rf"^#?:? ?{name} = ", text, re.MULTILINE), name


def test_settings_can_be_read() -> None:
    """``conf.settings`` gives every setting, also those that the project leaves out."""
    with override_settings():
        for name in read_by_conf():
            if hasattr(settings, name):
                delattr(settings, name)
        for name, field in read_by_conf().items():
            assert getattr(conf.settings, name) == getattr(conf.current(), field), name


def reasons() -> set[str]:
    """Why there was a miss, or nothing was stored: what our code gives to ``Outcome`` and the like."""
    found = set()
    for path in (ROOT / "cacheops_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Outcome", "Fixed"):
                found |= {
                    constant.value
                    for argument in node.args[2:]
                    for constant in ast.walk(argument)
                    if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
                }
    return found - {""}


def test_every_reason() -> None:
    """The guide says what each reason of a miss means, and knows no other."""
    told = re.findall(
        r"^(?:misses|not stored,) ``(\w+)``",
        (DOCS / "guide_observability.rst").read_text(),
        re.MULTILINE,
    )
    named = re.findall(r"``(\w+)``", str(Outcome.__doc__).partition("``missed``")[0])
    assert sorted(told) == sorted(named)
    assert {"failed", "unavailable", "moved", "unencodable"} <= reasons() <= set(named)


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
