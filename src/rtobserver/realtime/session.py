"""Put a session together from what the operator set and what a browser may add. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def admit(asked: Mapping[str, Any], keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Take of a browser's session what dotted `keys` allow; gives it, and the dotted keys that were not taken."""
    allowed = set(keys)
    taken: dict[str, Any] = {}
    dropped: list[str] = []

    def walk(part: Mapping[str, Any], into: dict[str, Any], path: str) -> None:
        for key, value in part.items():
            dotted = f"{path}{key}"
            if dotted in allowed:
                into[key] = value
            elif isinstance(value, Mapping) and any(name.startswith(f"{dotted}.") for name in allowed):
                inner: dict[str, Any] = {}
                walk(value, inner, f"{dotted}.")
                if inner:
                    into[key] = inner
            else:
                dropped.append(dotted)

    walk(asked, taken, "")
    return taken, dropped


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one session over another, object by object; arrays and plain values are replaced whole."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def lookup(session: Mapping[str, Any], dotted: str) -> Any:
    """Give the value at a dotted key; None where there is none."""
    value: Any = session
    for key in dotted.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
