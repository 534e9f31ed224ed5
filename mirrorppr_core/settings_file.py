"""Settings out of JSON: exactly the fields of a frozen dataclass, each of its type and within reason.

Whatever a file claims is checked here before anything is made of it: depths, kinds, sizes. What only fits together is
the dataclasses' own business.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from typing import Any

from .wording import brief

_MOST_BYTES = 50_000_000  # no JSON of ours comes near
_LARGEST = 2**20  # of any size, width or count in a configuration
_LONGEST = 1000  # entries of a list, characters of a text


def parsed(text: str | bytes, what: str) -> Any:
    """JSON.  what: how the user knows it.  Raises ValueError where it is none, is too long or nested too deep."""
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{what} is damaged ({len(text) / 1e6:.0f} MB of JSON)")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{what} is damaged (nested too deep)") from None
    except ValueError as error:  # also of bytes that are no UTF-8 and numbers of thousands of digits
        raise ValueError(f"{what} is damaged ({brief(error)})") from None


def parsed_table(text: str | bytes, what: str) -> dict[str, Any]:
    """JSON that must be a table with names."""
    found = parsed(text, what)
    if not isinstance(found, dict):
        raise ValueError(f"{what} is damaged (a {type(found).__name__} where a table should be)")
    return found


def settings_of(cls: type, values: Any) -> Any:
    """A dataclass from JSON values, dataclasses inside it likewise. Raises ValueError that names the field.

    Unknown or missing fields are refused: they mean another version of the code.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is {brief(repr(values), 40)}: need a table of its settings")
    hints = typing.get_type_hints(cls)
    expected = {field.name for field in dataclasses.fields(cls)}
    if set(values) != expected:
        odd = brief(sorted(brief(name, 40) for name in set(values) ^ expected)[:4], 120)
        raise ValueError(
            f"{cls.__name__}: fields {odd} do not fit this version of the code. Use weights and code of the same "
            "release."
        )
    try:
        return cls(**{name: _value(hints[name], value, f"{cls.__name__}.{name}") for name, value in values.items()})
    except (TypeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"{cls.__name__} cannot be made of these settings ({brief(error)})") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return settings_of(hint, value)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        open_ended = len(inner) == 2 and inner[1] is Ellipsis
        if isinstance(value, list) and len(value) <= _LONGEST and (open_ended or len(value) == len(inner)):
            kinds = [inner[0]] * len(value) if open_ended else inner
            return tuple(_value(kind, one, where) for kind, one in zip(kinds, value, strict=True))
    elif hint is bool:
        if isinstance(value, bool):
            return value
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return value
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            if math.isfinite(value):
                return float(value)
    elif hint is str and isinstance(value, str) and len(value) <= _LONGEST:
        return value
    kind = getattr(hint, "__name__", str(hint))
    raise ValueError(f"{where}={brief(repr(value), 60)}: need a {kind} within reason (numbers up to {_LARGEST})")
