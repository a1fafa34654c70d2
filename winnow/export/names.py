r"""Names of files that every system accepts and that never lead out of a folder.

What a name may not hold is decided by the strictest system: Windows forbids `< > : " / \ | ? *`, control characters,
names such as `CON` and a dot or blank at the end; macOS and Windows do not tell `Cat` from `cat`, nor two spellings
of one accent; Linux allows 255 bytes. A leading dot hides a file. Letters, digits and emoji of all writing systems
stay.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

from winnow.data.signatures import FORMAT_OF_EXTENSION, IMAGE_EXTENSIONS, format_of

MOST_BYTES = 255
_FORBIDDEN = frozenset('<>:"/\\|?*')
# Control characters, invisible marks (they reorder or hide), halves of characters, private and unassigned ones, breaks.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_RESERVED = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789\u00b9\u00b2\u00b3"}
)
_EXTENSION = {kind: extension for extension, kind in reversed(FORMAT_OF_EXTENSION.items())}


def safe_name(text: str, ending: str = "") -> str:
    """One part of a path made of any text; a text that is safe already stays as it is.

    Args:
        text: any text, also an empty one, a path or `..`.
        ending: added behind it, such as `.png` or `-2.png`; itself safe.

    Returns:
        A name of at most 255 bytes in UTF-8.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if _is_unsafe(character) else character for character in text)
    if text[:1] in (".", " ") or text.partition(".")[0].rstrip(" ").upper() in _RESERVED:
        text = f"_{text}"
    room = MOST_BYTES - len(ending.encode())
    text = text.encode()[:room].decode(errors="ignore")
    if not ending:
        bare = text.rstrip(". ")
        text = bare + "_" * (len(text) - len(bare))
    return (text or "_") + ending


class Names:
    """Hands out safe names, none twice in any spelling that some system takes for the same.

    Args:
        taken: names that are given away already.
    """

    def __init__(self, taken: Iterable[str] = ()):
        self._taken = {_folded(name) for name in taken}
        self._next: dict[str, int] = {}

    def give(self, text: str, ending: str = "") -> str:
        """The safe name of a text, with a number from 2 on where it is taken."""
        name = safe_name(text, ending)
        first = _folded(name)
        number = self._next.get(first, 2)
        while _folded(name) in self._taken:
            name = safe_name(text, f"-{number}{ending}")
            number += 1
        self._next[first] = number
        self._taken.add(_folded(name))
        return name


def split_extension(name: str, data: bytes | None) -> tuple[str, str]:
    """A picture's name without and with only its extension, which tells the format that the picture really has.

    Args:
        name: of the image; its own extension stays if it is right.
        data: the picture's file content; None trusts the name.
    """
    stem, extension = os.path.splitext(name)
    if extension.lower() not in IMAGE_EXTENSIONS:
        stem, extension = name, ""
    kind = format_of(data) if data is not None else None
    if kind is not None and FORMAT_OF_EXTENSION.get(extension.lower()) != kind:
        extension = _EXTENSION.get(kind, extension)
    return stem, extension


def _is_unsafe(character: str) -> bool:
    if character in _FORBIDDEN or unicodedata.category(character) in _INVISIBLE:
        return True
    return character != " " and character.isspace()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
