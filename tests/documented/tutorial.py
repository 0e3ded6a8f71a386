"""Do what the tutorial says, in a folder of its own: type its commands, write its files.

Files are named by the captions of blocks; what is said about the settings is added at their end.
Blocks for the Python shell that follow each other are one session. ``runserver`` listens at a port
of its own until the end, and ``curl`` asks it.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from .blocks import ROOT, Block, blocks

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

#: What the shell of the tutorial runs: the examples of a file, in the project.
SESSION = """
import doctest, pathlib, sys
import django
django.setup()
text = pathlib.Path(sys.argv[1]).read_text()
test = doctest.DocTestParser().get_doctest(text, {}, "tutorial", "tutorial", 0)
runner = doctest.DocTestRunner(optionflags=%d)
sys.exit(bool(runner.run(test).failed))
"""


class Reader:
    """Somebody who follows the tutorial."""

    def __init__(self, folder: Path, redis: str) -> None:
        self.folder, self.redis = folder, redis
        self.server: subprocess.Popen[bytes] | None = None
        self.port = 0

    def follow(self, path: Path) -> None:
        """From the first block to the last. Raises ``AssertionError`` where it is not so."""
        try:
            self._follow(path)
        finally:
            if self.server is not None:
                self.server.terminate()
                self.server.wait(30)

    def _follow(self, path: Path) -> None:
        for session, found in groupby(blocks(path), lambda block: block.language == "pycon"):
            if session:
                self.shell("\n".join(block.text for block in found))
                continue
            for block in found:
                if block.language == "console":
                    self.type(block)
                else:
                    self.write(block)

    def write(self, block: Block) -> None:
        """Write a file, or more of the settings."""
        assert block.caption, f"{block}: which file is it?"
        path = self.folder / block.caption
        text = block.text.replace("redis://localhost:6379/1", self.redis) + "\n"
        if path.name == "settings.py":
            text = path.read_text() + text
        path.write_text(text)

    def type(self, block: Block) -> None:
        """Type commands, compare what they print."""
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, wanted = part.partition("\n")
            words = shlex.split(command)
            if words[0] == "pip":
                continue  # the environment of the test has it
            if words[0] == "cd":
                self.folder /= words[1]
                continue
            if words[-1] == "runserver":
                self.serve()
                continue
            if words[0] == "curl":
                printed = self.visit(words[1].replace(":8000", f":{self.port}"))
            else:
                printed = self.run(["sh", "-euc", command])
            if wanted:
                assert doctest.OutputChecker().check_output(wanted, printed, FLAGS), (
                    f"{block}: {command}\nExpected:\n{wanted}\nGot:\n{printed}"
                )

    def serve(self) -> None:
        """Start the development server; it runs until the end."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.server = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", str(self.port)],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def visit(self, url: str) -> str:
        """A page of the server, which may still be starting."""
        until = time.monotonic() + 60
        while True:
            try:
                with urlopen(url, timeout=30) as response:
                    return str(response.read().decode())
            except URLError as error:
                started = not isinstance(error.reason, ConnectionRefusedError)
                if started or time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def shell(self, text: str) -> None:
        """One session of ``manage.py shell``."""
        examples = self.folder / "session.txt"
        examples.write_text(text + "\n")
        self.run([sys.executable, "-c", SESSION % FLAGS, str(examples)])

    def run(self, command: list[str]) -> str:
        """Run a command that must succeed; what it printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """That of a project of its own."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": f"{self.folder.name}.settings",
            "HOME": str(self.folder),
        }
