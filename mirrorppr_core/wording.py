"""Messages stay one readable sentence, whatever the file holds that they quote."""

from __future__ import annotations

_QUOTED = 160  # characters of somebody else's words
_NAME = 80  # of a file's name; systems allow 255


def brief(words: object, most: int = _QUOTED) -> str:
    """Somebody else's words on one line: an error's, a field's, a key's. At most so many characters."""
    line = " ".join("".join(one if one.isprintable() else " " for one in str(words)).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def file_name(name: str) -> str:
    """A file's name with its middle left out where it is very long: begin and ending are what one looks for."""
    name = brief(name, 300)
    return name if len(name) <= _NAME else f"{name[: _NAME - 27]}...{name[-24:]}"
