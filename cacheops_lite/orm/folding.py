"""One text for all texts that some collation calls equal: case, accents, width and padding fold."""

from __future__ import annotations

import unicodedata


def fold(text: str) -> str:
    """Spell ``text`` so that whatever a supported collation calls equal is spelt alike.

    Giving one spelling to different texts is allowed, the converse is not.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(char for char in text if char < "\x80" or char.isalnum())
        text = unicodedata.normalize("NFKD", text)
        text = "".join(char for char in text if char <= "\uffff" and not _mark(char))
    text = text.casefold().replace("ss", "s")
    if not text.isprintable():
        text = "".join(char for char in text if char.isprintable())
    return text.rstrip(" ")


def _mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")
