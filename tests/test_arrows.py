"""The house keeps its arrows: floors, the order of files on a floor, and who may know what.

Everything is read from the source with ``ast``; nothing of the package is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "cacheops_lite"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE

#: The floors from the ground up, and on each floor the files in the order of the stairs: a file
#: imports from floors below, and on its own floor from files that stand before it.
HOUSE: dict[str, list[str]] = {
    "core": (
        "core.forks core.entry core.keys core.stamps core.memo core.dnf core.squeeze core.codec core.servers core.plans "
        "core.state core.ensuring core.touching core.writing core.reading core.protocol"
    ).split(),
    "stores": (
        "stores.breaker stores.scripts stores.replies stores.client stores.memory "
        "stores.exchange stores.transport stores.nodes stores.slots stores.cluster"
    ).split(),
    "wiring": "signals counters pulse given prefixes profiles conf store engine".split(),
    "orm": (
        "orm.own_cursor orm.folding orm.collations orm.texts orm.values orm.unconverted orm.ranges "
        "orm.comparisons orm.tables orm.walk orm.steady orm.volatile "
        "orm.unread orm.where orm.joins orm.levels orm.dynamic orm.conditions "
        "orm.spelling orm.nodes orm.roots orm.lazy "
        "orm.fingerprint orm.shapes orm.build orm.rows orm.statements orm.templates "
        "orm.choices orm.shortcut orm.registry orm.rawsql orm.targets orm.testcases "
        "orm.scope orm.pending orm.collecting orm.transactions orm.refusals orm.joining orm.predicates orm.row_hash "
        "orm.matching orm.rows_lookup orm.catalogue orm.update_returning orm.views orm.stored orm.instances orm.explained orm.inserted "
        "orm.updated orm.writes orm.rawtables orm.rawcontrol orm.unfinished orm.rawwrites orm.by_hand "
        "orm.planning orm.one_read orm.reads orm.singles orm.follow orm.prefetched orm.queryset "
        "orm.explain "
        "orm.connections orm.patch"
    ).split(),
    "user": (
        "stats report rights doctor "
        "functions.signatures functions.times functions.colours functions.calls functions.tags "
        "functions.options functions.policies functions.backend functions.memoize functions.refresh functions.lease "
        "functions.one_read functions.samples functions.results "
        "functions.visitors functions.responses functions.views functions.decorators "
        "functions.fingerprints functions.by_fingerprint "
        "simple.backend simple.base simple.in_redis simple.in_files simple "
        "invalidation reaper middleware geojson whitespace templatetags.cacheops jinja2 "
        "testing.switch testing.asserts testing.mixin testing.pytest_plugin "
        "management.commands.invalidate management.commands.cleanfilecache "
        "management.commands.reapconjs management.commands.cacheops checks apps"
    ).split(),
}

#: Stand outside the floors: whoever raises must be able to name what users catch.
NEUTRAL = {"exceptions"}

#: Imports inside functions that go up the stairs of their own floor, and why they may.
LAZY = {
    ("orm.choices", "orm.explain"): "explaining a query needs everything that runs one",
}

#: Who else may import django.conf, and the settings, all Django's own, that it may read there.
DJANGO_SETTINGS = {
    "orm.texts": {"USE_TZ"},
    "orm.values": {"USE_TZ"},
    "orm.fingerprint": {"USE_TZ"},
    "functions.responses": {"SESSION_COOKIE_NAME", "USE_I18N", "USE_TZ"},
    "checks": {"INSTALLED_APPS"},
}

#: The only files that know redis-py, the library.
REDIS = {
    f"stores.{name}" for name in ("client", "exchange", "transport", "nodes", "slots", "cluster")
}

FLOOR = {module: floor for floor, modules in HOUSE.items() for module in modules}


class Import(NamedTuple):
    """One imported module: absolute name, and where the statement stands."""

    target: str
    place: str  # "module", "function" or "typing"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(path: Path) -> bool:
    """Whether a file counts: of the ``__init__`` files only one makes something.

    The package, and ``redis``, whose name is that of django-cacheops, do so when they are asked.
    """
    return path.name != "__init__.py" or path.parent.name == "simple"


SOURCES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if is_module(path)}


def imports(tree: ast.Module, module: str) -> Iterator[Import]:
    """The modules that a file imports; ours are spelt without the package's name."""
    package = [PACKAGE, *module.split(".")[:-1]]

    def visit(node: ast.AST, place: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inner = place
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = "function"
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                inner = "typing"
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(ours(alias.name), place)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                stem = ".".join([*base, *([child.module] if child.module else [])])
                for alias in child.names:
                    full = ours(f"{stem}.{alias.name}")
                    yield Import(full if full in SOURCES else ours(stem), place)
            else:
                yield from visit(child, inner)

    yield from visit(tree, "module")


def ours(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.")


def trees() -> Iterator[tuple[str, ast.Module]]:
    for module, path in SOURCES.items():
        yield module, ast.parse(path.read_text())


def top(target: str) -> str:
    return target.partition(".")[0]


def wrong_stairs(module: str, tree: ast.Module) -> list[str]:
    """The imports of a file that go up, or sideways against the order of its floor."""
    floors = list(HOUSE)
    wrong = []
    for target, place in imports(tree, module):
        if target not in FLOOR or target == module:
            continue
        mine, theirs = FLOOR[module], FLOOR[target]
        if mine != theirs:
            allowed = floors.index(theirs) < floors.index(mine)
        elif place == "module":
            allowed = HOUSE[mine].index(target) < HOUSE[mine].index(module)
        else:
            allowed = place == "typing" or (
                HOUSE[mine].index(target) < HOUSE[mine].index(module) or (module, target) in LAZY
            )
        if not allowed:
            wrong.append(f"{module} -> {target}")
    return wrong


def patched(tree: ast.Module) -> list[str]:
    """Assignments onto names that were imported from Django: ``X.a = …``, ``setattr(X, …)``."""
    foreign = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if top(getattr(node, "module", None) or alias.name) == "django"
    }
    found = []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.Delete):
            targets = [
                target
                for target in getattr(node, "targets", [getattr(node, "target", None)])
                if isinstance(target, ast.Attribute)
            ]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr"):
            targets = [ast.Attribute(node.args[0], "", ast.Store())]
        for target in targets:
            owner: ast.expr = target
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in foreign:
                found.append(f"line {node.lineno}: {ast.unparse(target)}")
    return found


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_every_file_has_its_place(module: str) -> None:
    """A new file says in HOUSE on which stair it stands."""
    assert module in FLOOR or module in NEUTRAL or module.startswith("contrib."), (
        f"{module} has no place in HOUSE (tests/test_arrows.py)"
    )


@pytest.mark.parametrize("module", sorted(set(SOURCES) & set(FLOOR)))
def test_imports_go_down_the_stairs(module: str) -> None:
    """A file imports from floors below, and on its own floor from files before it."""
    assert wrong_stairs(module, ast.parse(SOURCES[module].read_text())) == []


def test_neutral_files_import_nothing_of_ours() -> None:
    """What stands outside the floors leads into none of them."""
    for module in NEUTRAL:
        tree = ast.parse(SOURCES[module].read_text())
        assert [target for target, _ in imports(tree, module) if target in SOURCES] == []


def test_the_core_knows_neither_django_nor_redis() -> None:
    """The protocol can be model-checked and reused without a framework."""
    known = {
        (module, top(target))
        for module, tree in trees()
        if FLOOR.get(module) == "core"
        for target, _ in imports(tree, module)
    }
    assert {pair for pair in known if pair[1] in {"django", "redis", "funcy", "valkey"}} == set()


def test_stores_do_not_know_django() -> None:
    """A store can be used, and tested, without settings."""
    assert [
        module
        for module, tree in trees()
        if FLOOR.get(module) == "stores"
        for target, _ in imports(tree, module)
        if top(target) == "django"
    ] == []


def test_only_the_stores_know_redis() -> None:
    """Another client library would touch a few files of one folder."""
    importers = {
        module
        for module, tree in trees()
        for target, _ in imports(tree, module)
        if top(target) in {"redis", "hiredis", "valkey"}
    }
    assert importers <= REDIS


def test_only_the_codec_unpickles() -> None:
    """What is unpickled has had its signature checked: there is one place to look at."""
    assert {
        module
        for module, tree in trees()
        for target, _ in imports(tree, module)
        if top(target) in {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    } == {"core.codec"}


def test_only_conf_reads_our_settings() -> None:
    """Who else imports django.conf reads Django's own settings, and only those listed."""
    for module, tree in trees():
        if module == "conf" or not any(
            target.startswith("django.conf") and not target.startswith("django.conf.urls")
            for target, _ in imports(tree, module)
        ):
            continue
        read = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "settings"
            and node.attr.isupper()
        }
        assert read == DJANGO_SETTINGS.get(module), f"{module} reads {read} from django.conf"


def test_only_patch_assigns_onto_django() -> None:
    """Whoever wants to know what is changed in Django reads one file."""
    found = {module: patched(tree) for module, tree in trees() if module != "orm.patch"}
    assert {module: lines for module, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("core.keys", "from ..orm import values", ["core.keys -> orm.values"]),
        ("core.keys", "from .protocol import run", ["core.keys -> core.protocol"]),
        ("core.keys", "def f():\n    from .. import conf", ["core.keys -> conf"]),
        ("orm.values", "import cacheops_lite.orm.patch", ["orm.values -> orm.patch"]),
        ("engine", "from .orm.reads import fetch", ["engine -> orm.reads"]),
        ("engine", "from .core.entry import Conj\nfrom . import conf", []),
        ("core.keys", "if TYPE_CHECKING:\n    from .protocol import run", []),
    ],
)
def test_wrong_stairs_are_seen(module: str, source: str, wrong: list[str]) -> None:
    """The test of the stairs can fail."""
    assert wrong_stairs(module, ast.parse(source)) == wrong


@pytest.mark.parametrize(
    "source",
    [
        "from django.db.models import QuerySet\nQuerySet.cache = 1",
        "from django.db import models\nmodels.QuerySet.cache = 1",
        "from django.db import models\nsetattr(models.Manager, 'cache', 1)",
        "from django.db.models import Model as M\ndel M.save",
        "import django.db\ndjango.db.connection.x = 2",
    ],
)
def test_assignments_onto_django_are_seen(source: str) -> None:
    """The test of the patches can fail."""
    assert len(patched(ast.parse(source))) == 1
