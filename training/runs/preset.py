"""A preset: everything one training run needs, as plain values, and changes to it by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from .loop import LoopConfig
from .stage import Stage, check_order

ENGINES = {"mini": "training.mini.engine", "qwen": "training.qwen.engine", "locator": "training.locator.engine"}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One run. data and model are the engine's own dataclasses."""

    name: str
    engine: str
    stages: tuple[Stage, ...]
    data: Any
    model: Any
    loop: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"preset {self.name}: engine {self.engine!r} is none of {', '.join(ENGINES)}")
        check_order(self.stages)

    def described(self, stage: Stage) -> dict:
        """The settings that make a stage's result what it is. A checkpoint of others is refused."""
        named = {"engine": self.engine, "stage": stage, "data": self.data, "model": self.model}
        return plain({**named, "seed": self.loop.seed, "precision": self.loop.precision}, compared_only=True)


def plain(value: Any, *, compared_only: bool = False) -> Any:
    """Dataclasses as JSON values. compared_only leaves out fields such as paths, which may change between runs."""
    if is_dataclass(value):
        kept = [f for f in fields(value) if not compared_only or f.metadata.get("compared", True)]
        return {f.name: plain(getattr(value, f.name), compared_only=compared_only) for f in kept}
    if isinstance(value, Mapping):
        return {str(k): plain(v, compared_only=compared_only) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, compared_only=compared_only) for v in value]
    return json.loads(json.dumps(value))


def changed(value: Any, change: Any, where: str) -> Any:
    """The value with a tree of changes applied, all of a dataclass's at once, as they may only fit together."""
    if is_dataclass(value):
        known = {f.name: getattr(value, f.name) for f in fields(value)}
        return replace(value, **_each(known, change, where))
    if isinstance(value, tuple) and value and isinstance(value[0], Stage):
        new = _each({stage.name: stage for stage in value}, change, where)
        return tuple(new.get(stage.name, stage) for stage in value)
    if isinstance(value, Mapping):
        if not isinstance(change, Mapping):
            raise ValueError(f"{where} is a table: set its entries, {where}.NAME=value")
        return {**value, **change}
    return _typed(value, change, where)


def _each(known: dict[str, Any], change: Any, where: str) -> dict[str, Any]:
    if not isinstance(change, Mapping):
        raise ValueError(f"{where} has parts {', '.join(known)}: set one of them, {where}.NAME=value")
    unknown = sorted(set(change) - set(known))
    if unknown:
        raise ValueError(f"{where or 'a preset'} has no {unknown[0]!r}, only {', '.join(known)}")
    return {name: changed(known[name], new, f"{where}.{name}".lstrip(".")) for name, new in change.items()}


def _typed(value: Any, change: Any, where: str) -> Any:
    """The new value in the old one's type. YAML reads 1e-3 as text, so text that is a number counts as one."""
    try:
        if isinstance(value, bool):
            fits = isinstance(change, bool)
        elif isinstance(value, int):
            fits = isinstance(change, int) and not isinstance(change, bool)
        elif isinstance(value, float):
            change, fits = float(change), not isinstance(change, bool)
        elif isinstance(value, tuple):
            items = change if isinstance(change, list) else [change]
            return tuple(items)
        else:
            change, fits = str(change), not isinstance(change, Mapping | list)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"{where}={change!r}: needs {type(value).__name__}, as in {where}={value!r}")
    return change
