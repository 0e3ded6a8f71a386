"""``manage.py cleanfilecache``: remove the files of the file cache whose time is over."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ... import conf
from ...simple.in_files import expired

#: The bar is drawn anew after so many files.
STEP = 256
WIDTH = 30


class Command(BaseCommand):
    """Values that are over are never answered; this only frees their space."""

    help = "Removes expired files of the file cache."

    def add_arguments(self, parser: CommandParser) -> None:
        """Paths, and whether to only count."""
        parser.add_argument(
            "path", nargs="*", default=["default"],
            help="folders of file caches; 'default' (also if none is given) is FILE_CACHE_DIR",
        )  # fmt: skip
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be removed, remove nothing"
        )
        parser.add_argument(
            "--no-progress", action="store_true", help="draw no bar, not even on a terminal"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Clean each path."""
        for name in options["path"]:
            path = Path(conf.current().file_cache_dir if name == "default" else name)
            self.clean(
                path, options["dry_run"], self.stdout.isatty() and not options["no_progress"]
            )

    def clean(self, path: Path, dry_run: bool, show: bool) -> None:
        """Remove what is over under one path, and say how much it was."""
        if not path.is_dir():
            self.stdout.write(f"{path}: no file cache there")
            return
        files = list(expired(path))
        removed = freed = 0
        for number, (file, over) in enumerate(files, 1):
            if over:
                # Gone already, or replaced by a new value a moment ago: a value lost, not wrong.
                with contextlib.suppress(FileNotFoundError):
                    size = file.stat().st_size
                    if not dry_run:
                        file.unlink()
                    removed, freed = removed + 1, freed + size
            if show and (number % STEP == 0 or number == len(files)):
                self.draw(number, len(files))
        verb = "would remove" if dry_run else "removed"
        self.stdout.write(f"{path}: {verb} {removed} of {len(files)} files, {freed / 1024:.1f} KiB")

    def draw(self, done: int, total: int) -> None:
        """Draw the progress bar over itself."""
        filled = WIDTH * done // total
        bar = "#" * filled + "." * (WIDTH - filled)
        self.stdout.write(f"\r[{bar}] {done}/{total}", ending="\n" if done == total else "")
        self.stdout.flush()
