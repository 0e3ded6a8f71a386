"""One spelling for all texts that some collation calls equal: case, accents, width and padding.

A collation maps each character to weights and compares their sequence. The spelling here does the
same, coarser: character by character, so that equal sequences of weights give equal spellings. That
this holds for every character of ``_CERTAIN`` was checked against the weights of the collations of
MariaDB that have no language of their own (general, unicode, unicode_520, uca1400; accents and case
ignored). Whoever meets another character cannot spell the text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_CERTAIN: Final = re.compile(
    "[\x00-\x7f"
    # Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic
    "\xa0-\u018c\u018e-\u01bd\u01bf-\u0237\u023b-\u023d\u023f-\u02a2\u02ac-\u02ff\u0300-\u0362\u1e00-\u1ef9"
    "\u0370-\u03ce\u03d0-\u03d6\u03d8-\u03ff\u1f00-\u1fff\u0400-\u052f\u0531-\u058f"
    "\u0590-\u05ee\u05f0-\u05f4\u0600-\u0673\u0679-\u06e4\u06e7-\u06fc\u06ff"
    "\ufb1d-\ufbdc\ufbde-\ufbff\ufe80-\ufefc"
    # South Asia, Thai, Lao, Georgian
    "\u0900-\u09cd\u09cf-\u09f3\u0a00-\u0c5c\u0c5e-\u0c77\u0c80-\u0cdc\u0cde-\u0d4d"
    "\u0d57-\u0d79\u0d80-\u0eff\u10a0-\u10ff\u2d00-\u2d2d"
    # Korean, Japanese, Chinese
    "\u1100-\u11c2\u3131-\u3163\uac00-\ud7a3"
    "\u3000-\u3005\u3008-\u3020\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffee"
    # signs, arrows, emoji
    "\u2000-\u206f\u20a0-\u20cf\u2100-\u214c\u214e\u214f\u2190-\u23ff\u2500-\u2775\u2794-\u27ff"
    "\u2900-\u2bff\ufe00-\ufe0f\ufffd\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"
    "\U00020000-\U0003fffd]*"
)


#: Collations that :func:`fold` covers: those that compare bytes, and
#: those without the rules of one language.
_KNOWN_COLLATION: Final = re.compile(
    r"binary|nocase|rtrim"  # SQLite
    r"|c|posix|ucs_basic|default|[a-z]{2}_[a-z]{2}(\.utf-?8)?|(und|[a-z]{2}(-[a-z]{2})?)-x-icu"
    r"|ascii_(bin|general_ci)|latin1_(bin|general_ci|general_cs)"
    r"|utf8(mb[34])?_(nopad_)?(bin|0900_bin|(general|unicode|unicode_520|0900_ai|0900_as)_c[is]"
    r"|general_nopad_ci|unicode_nopad_ci|unicode_520_nopad_ci|nopad_bin|uca1400_(nopad_)?a[is]_c[is])",
    re.IGNORECASE,
)


def _special() -> dict[int, str]:
    """Letters that collations take for others although Unicode does not decompose them."""
    found = dict(zip("øđðħłıŧґךםןףץ", "oddhlitгכמנפצ", strict=True))
    found |= {"æ": "ae", "œ": "oe", "װ": "וו", "ױ": "וי", "ײ": "יי", "ι": "", "ـ": ""}
    small = dict(zip("ぁぃぅぇぉっゃゅょゎゕゖ", "あいうえおつやゆよわかけ", strict=True))
    found |= small
    for code in range(0x30A1, 0x30F7):  # Katakana
        hiragana = chr(code - 0x60)
        found[chr(code)] = small.get(hiragana, hiragana)
    for at in range(38):  # the other case of Georgian
        found[chr(0x2D00 + at)] = chr(0x10D0 + at)
    for first in ("เ", "ເ"):  # Thai and Lao vowels that are sorted after the next letter
        found |= {chr(ord(first) + at): "" for at in range(5)}
    return str.maketrans(found)


_SPECIAL: Final = _special()


def fold(text: str) -> str | None:
    """Spell ``text`` so that whatever a supported collation calls equal is spelt alike.

    Giving one spelling to different texts is allowed, the converse is not. ``None`` if a character
    is not known well enough.
    """
    if not text.isascii():
        if not _CERTAIN.fullmatch(text):
            return None
        text = unicodedata.normalize("NFKD", text.replace("\u037a", "")).casefold()
        text = unicodedata.normalize("NFKD", text)
        text = "".join(map(_character, text)).translate(_SPECIAL)
    text = text.casefold()
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    # Some take ß for s, others for ss.
    return re.sub("ss+", "s", text).rstrip(" ")


def known_collation(name: str) -> bool:
    """Whether :func:`fold` covers a collation, so that texts under it may be terms."""
    return _KNOWN_COLLATION.fullmatch(name) is not None


def _character(char: str) -> str:
    """Letters stay, digits of all scripts become ASCII's; marks and signs go."""
    if char < "\x80":
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    return char if category[0] == "L" and char <= "\uffff" else ""
