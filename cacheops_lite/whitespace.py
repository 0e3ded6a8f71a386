"""What cached fragments of templates leave out: runs of white space between tags."""

from __future__ import annotations

import re

from django.utils.safestring import SafeData, mark_safe

_BETWEEN_TAGS = re.compile(r">(\s{2,})<")


def strip_between_tags(text: str) -> str:
    """Shorten white space between tags to one line break or one space; safe text stays safe."""
    short = _BETWEEN_TAGS.sub(lambda run: ">\n<" if "\n" in run.group(1) else "> <", text)
    return mark_safe(short) if isinstance(text, SafeData) else short  # noqa: S308 (it was safe)
