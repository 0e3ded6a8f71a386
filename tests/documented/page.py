"""Run the blocks of one page in the project of the documentation, in their order.

- ``python``: run in one namespace for the page. A comment at the end of a statement that says
  ``1 query`` or ``no queries`` is a promise: so many SQL statements reach the database.
  With the caption ``settings.py`` its names become settings, which must pass the system checks;
  ``test_*.py`` is a file of tests for pytest; ``models.py`` and the like are run as they are.
- ``pycon``: a doctest in the same namespace.
- ``console``: every line is a verb of the Makefile, a management command, or something for pip;
  lines of a shell are run in an empty folder with a file of Python in it.
- ``html+django``: a template, rendered. ``jinja``: parsed. ``ini``, ``toml``, ``yaml``: read.
- ``text``, ``diff``: fragments.

Called with pages; prints the first block of each that is not as the page says.
"""

from __future__ import annotations

import ast
import asyncio
import configparser
import doctest
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from .blocks import FRAGMENTS, ROOT, Block, blocks

PROJECT = Path(__file__).parent / "project"

_WHERE = """
    CACHEOPS_REDIS CACHEOPS_SENTINEL CACHEOPS_CLIENT_CLASS DATABASES INSTALLED_APPS
""".split()

_PROMISE = re.compile(r"#.*?\b(\d+|no) (?:query|queries)\b")


class Wrong(Exception):
    """The page says something that is not so."""


class Page:
    """What the blocks of a page have in common: names, settings in force, a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "documented"}
        self.settings = ExitStack()

    def run(self, block: Block) -> None:
        """Run one block. Raises what it raises, or ``Wrong``."""
        if block.language in FRAGMENTS:
            return
        name = "run_" + re.sub(r"\W", "_", block.language)
        method: Callable[[Block], None] | None = getattr(self, name, None)
        if method is None:
            raise Wrong(f"nobody knows how to run {block.language!r}; declare it as text")
        method(block)

    # -- python

    def run_python(self, block: Block) -> None:
        if block.caption.rpartition("/")[2] == "settings.py":
            self.apply(self.execute(block))
        elif re.fullmatch(r"(.*/)?test_\w+\.py|conftest\.py", block.caption):
            self.test(block)
        else:
            before = dict(self.names)
            self.execute(block)
            changed = {
                name: value
                for name, value in self.names.items()
                if name.isupper() and before.get(name) is not value
            }
            if any(name.startswith(("CACHEOPS", "FILE_CACHE")) for name in changed):
                self.apply(changed)

    def execute(self, block: Block) -> dict[str, Any]:
        """Run the statements, each promise around its own; the new names."""
        before = dict(self.names)
        self.names["_promised"] = promised
        tree = _Promises(block.text.splitlines()).visit(ast.parse(block.text))
        code = compile(
            ast.fix_missing_locations(tree),
            f"<{block}>",
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        result = eval(code, self.names)
        if inspect.iscoroutine(result):
            asyncio.run(_awaited(result))
        return {name: value for name, value in self.names.items() if name not in before}

    def apply(self, names: dict[str, Any]) -> None:
        """Have settings in force from here on; they must be right."""
        from django.core.checks import run_checks
        from django.test import override_settings

        values = {name: value for name, value in names.items() if name.isupper()}
        chosen = {
            name: value
            for name, value in values.items()
            # NOTE: where the servers are is the test's word.
            if name not in _WHERE
        }
        self.settings.enter_context(override_settings(**chosen))
        if "CACHEOPS_REDIS" in values:
            from cacheops_lite.stores import client

            if client.is_cluster(values.get("CACHEOPS_CLIENT_CLASS")):
                client.cluster_seeds(values["CACHEOPS_REDIS"])
            elif not str(values["CACHEOPS_REDIS"]).startswith("memory://"):
                client.make_client(values["CACHEOPS_REDIS"])
        bad = [str(one) for one in run_checks(tags=["cacheops"]) if one.id != "cacheops_lite.W001"]
        if bad:
            raise Wrong("\n".join(bad))

    def test(self, block: Block) -> None:
        """A file of tests, run by pytest as soon as it is there with what it needs."""
        (self.folder / block.caption).write_text(block.text)
        (self.folder / "pytest.ini").write_text("[pytest]\n")
        if not block.caption.startswith("test_"):
            return
        self.shell(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider",
             "--reuse-db", block.caption],
            self.folder,
        )  # fmt: skip

    def run_pycon(self, block: Block) -> None:
        parser = doctest.DocTestParser()
        test = parser.get_doctest(block.text + "\n", self.names, block.page, block.page, block.line)
        output = io.StringIO()
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        runner = doctest.DocTestRunner(optionflags=flags)
        runner.run(test, out=output.write, clear_globs=False)
        self.names |= test.globs
        if runner.failures:
            raise Wrong(output.getvalue())

    # -- console

    def run_console(self, block: Block) -> None:
        text = re.sub(r"\\\n\s*", " ", block.text)
        for line in text.splitlines():
            command = re.sub(r"\s+# .*", "", line.removeprefix("$ ")).strip()
            if command and not command.startswith("#"):
                self.command(command)

    def command(self, command: str) -> None:
        """One line of a shell."""
        words = shlex.split(command)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        if words[0] == "make":
            self.verb(words[1:])
        elif words[0] in ("pip", "uv"):
            self.requirement(words)
        elif words[0] in ("./manage.py", "manage.py") or words[:2] == ["python", "manage.py"]:
            self.manage(words[words.index("python") + 2 if words[0] == "python" else 1 :])
        elif words[:2] == ["python", "-m"]:
            self.module(words[2])
        elif words[0] in ("git", "cd", "nox", "pre-commit", "docker", "redis-cli", "valkey-cli"):
            self.other(words)
        else:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "models.py").write_text("from cacheops import cached\n")
                self.shell(["sh", "-euc", command], Path(folder))

    def verb(self, words: list[str]) -> None:
        found = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        asked = [word for word in words if "=" not in word]
        if not set(asked) <= found:
            raise Wrong(f"the Makefile has no {set(asked) - found}")

    def requirement(self, words: list[str]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        for word in words:
            if match := re.search(r"cacheops-lite\[([\w,-]+)\]", word):
                extras = project["project"]["optional-dependencies"]
                if unknown := set(match[1].split(",")) - set(extras):
                    raise Wrong(f"there is no extra {unknown}")
            if (
                words[words.index(word) - 1] == "--group"
                and word not in project["dependency-groups"]
            ):
                raise Wrong(f"there is no group {word}")

    def manage(self, words: list[str]) -> None:
        from django.core.management import call_command

        if words[0] in ("runserver", "shell", "startapp", "createsuperuser"):
            return
        with redirect_stdout(io.StringIO()):
            call_command(*words)

    def module(self, name: str) -> None:
        parts = name.split(".")
        path = ROOT.joinpath(*parts)
        if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists():
            raise Wrong(f"there is no module {name} to run")

    def other(self, words: list[str]) -> None:
        """Programs of other projects: believed, but for the sessions of nox."""
        if words[0] == "nox":
            known = (ROOT / "noxfile.py").read_text()
            for name in [word for word in words[1:] if word.isidentifier()]:
                if f"def {name}(" not in known:
                    raise Wrong(f"noxfile.py has no session {name}")

    def shell(self, command: list[str], folder: Path) -> None:
        """Run a command that must succeed."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (folder, PROJECT, ROOT))),
            "DJANGO_SETTINGS_MODULE": "settings",
        }
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100
        )
        if done.returncode:
            raise Wrong(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")

    # -- templates and files of settings

    def run_html_django(self, block: Block) -> None:
        from django.template import Context, Template

        Template(block.text).render(Context(dict(self.names)))

    def run_jinja(self, block: Block) -> None:
        import jinja2

        environment = jinja2.Environment(extensions=["cacheops_lite.jinja2.cache"], autoescape=True)
        environment.from_string(block.text).render(**self.names)

    def run_ini(self, block: Block) -> None:
        configparser.ConfigParser().read_string(block.text)

    def run_toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    def run_yaml(self, block: Block) -> None:
        if re.search(r"^\t", block.text, re.MULTILINE) or ":" not in block.text:
            raise Wrong("this is no YAML")


class _Promises(ast.NodeTransformer):
    """Puts each simple statement with a promise into ``with _promised(queries, statement):``."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node, ast.stmt) or hasattr(node, "body"):
            return node
        found = _PROMISE.search(self.lines[(node.end_lineno or 1) - 1])
        if not found:
            return node
        wanted = 0 if found[1] == "no" else int(found[1])
        arguments: list[ast.expr] = [ast.Constant(wanted), ast.Constant(ast.unparse(node))]
        call = ast.Call(ast.Name("_promised", ast.Load()), arguments, [])
        return ast.copy_location(ast.With([ast.withitem(call)], [node]), node)


@contextmanager
def promised(wanted: int, statement: str) -> Iterator[None]:
    """So many statements of SQL reach the databases inside. Raises ``Wrong``."""
    from django.db import connections

    seen: list[str] = []

    def count(execute: Any, sql: Any, *rest: Any) -> Any:
        if str(sql).split(None, 1)[:1] not in (["SAVEPOINT"], ["RELEASE"], ["BEGIN"]):
            seen.append(str(sql))
        return execute(sql, *rest)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(count))
        yield
    if len(seen) != wanted:
        raise Wrong(f"{statement}\n  {wanted} queries promised, {len(seen)} made: {seen}")


async def _awaited(coroutine: Any) -> None:
    await coroutine


@contextmanager
def project(folder: Path) -> Any:
    """The project of the documentation with its rows, in a fresh database."""
    import django

    sys.path[:0] = [str(PROJECT)]
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    os.environ["DOCUMENTED_FOLDER"] = str(folder)
    django.setup()
    from django.core.management import call_command

    for alias in ("default", "replica"):
        call_command("migrate", run_syncdb=True, verbosity=0, database=alias)
    from blog import data

    data.fill()
    yield


def main(names: list[str]) -> int:
    """Run pages, each on its own names; how many are wrong. What is wrong is printed."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, project(Path(folder)):
        for name in names:
            told = run(Page(Path(folder)), ROOT / name)
            wrong += bool(told)
            print(f"{name}: {told or 'right'}")
    return min(wrong, 100)


def run(page: Page, path: Path) -> str:
    """Run a page; what is wrong."""
    block: Block | None = None
    with page.settings:
        try:
            for block in blocks(path):
                with redirect_stdout(io.StringIO()):
                    page.run(block)
        except Exception as error:
            told = str(error) if isinstance(error, Wrong) else traceback.format_exc(limit=-4)
            return f"{block} ({block.language}):\n{block.text}\n\n{told}" if block else told
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
