"""Settings in YAML: read with the line of every name, so that a mistake is told with its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorppr_core.wording import brief

_MOST_BYTES = 1_000_000
_DEEPEST = 12


@dataclass(frozen=True)
class SettingsFile:
    """tree: as the file says.  lines: `a.b` -> the line, from 1, that names it."""

    tree: dict
    lines: dict[str, int]


def read_settings(path: Path) -> SettingsFile:
    """Raises ValueError that names the file, the line and what is wrong there."""
    import yaml  # comes with accelerate

    try:
        content = path.read_bytes()
        if len(content) > _MOST_BYTES:
            raise ValueError(f"{path} has {len(content) / 1e6:.0f} MB: no settings of ours are so long")
        text = content.decode("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _lines(node)
        tree = value_of(text, str(path))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not UTF-8, save the file as UTF-8") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep for settings") from error
    except yaml.YAMLError as error:
        raise ValueError(_told(str(path), error)) from error
    if not isinstance(tree, dict) or not tree:
        kind = "is empty" if tree is None or tree == {} else f"holds a {type(tree).__name__}"
        raise ValueError(f"{path} {kind}: write settings as `name: value`, first `base: mini-face`")
    return SettingsFile(tree, lines)


def value_of(text: str, where: str) -> Any:
    """What a piece of YAML says. Raises ValueError."""
    import yaml

    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deep for settings") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:  # dates that are none, odd keys
        raise ValueError(_told(where, error)) from error


def line_of(message: str, lines: dict[str, int]) -> int:
    """The line whose setting the message speaks of; 0 where it speaks of none in the file."""
    for name in sorted(lines, key=len, reverse=True):
        above, _, last = name.rpartition(".")
        unknown = f"{above or 'a preset'} has no {last!r}"
        if message.startswith((f"{name}=", f"{name} ", unknown)):
            return lines[name]
    inside = [name for name in lines if name.rpartition(".")[2] + "=" in message]
    return lines[inside[0]] if len(inside) == 1 else 0


def _lines(node: Any, name: str = "", depth: int = 0) -> dict[str, int]:
    found: dict[str, int] = {}
    pairs = getattr(node, "value", None)
    if depth > _DEEPEST:
        raise RecursionError
    if type(node).__name__ == "MappingNode":
        for key, value in pairs:
            own = f"{name}.{key.value}" if name else str(key.value)
            found[own] = key.start_mark.line + 1
            found |= _lines(value, own, depth + 1)
    return found


def _told(where: str, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = brief(getattr(error, "problem", None) or error)
    place = f"{where}, line {mark.line + 1}" if mark else where
    return f"{place}: {problem}. Write settings as `name: value`, indented with spaces"
