"""Compare names with patterns of `*` (any characters, none too) and `?` (any one). Pure.

In time that grows with the product of the two lengths at worst; nothing backtracks further.
"""

from __future__ import annotations


def is_glob(pattern: str) -> bool:
    """Say whether a pattern can stand for more than one name."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, name: str) -> bool:
    """Say whether a pattern stands for a name; capitals count."""
    at = place = 0
    star, after = -1, 0
    while place < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, after = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            # let the last star take one character more
            after += 1
            at, place = star + 1, after
        else:
            return False
    return all(character == "*" for character in pattern[at:])
