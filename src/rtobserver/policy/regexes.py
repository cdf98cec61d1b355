"""Search RE2 patterns in the end of what is said. Pure."""

from __future__ import annotations

import re2

WINDOW = 4096
"""Bytes of UTF-8 at the end of a text that a pattern is searched in."""
MAX_SIZE = 1_500
"""Largest program, in RE2's instructions: what the slowest search of one window costs is bounded by it."""

_MAX_LENGTH = 2_000
_MAX_MEMORY = 1 << 20
_PROBES = (b"", b"a", b"a b", b"\n", b"a\n", b"1", b".")
"""Texts in which a useful pattern finds something or nothing, but never the empty text."""


class PatternError(ValueError):
    """Say why a pattern cannot be used."""


class Pattern:
    """Be a compiled pattern."""

    __slots__ = ("_search", "looks_ahead", "size", "source")

    def __init__(self, source: str, compiled: re2._Regexp) -> None:
        self.source = source
        self.size: int = compiled.programsize
        """Instructions of the program: what a search costs at most, for each byte."""
        self.looks_ahead = looks_ahead(source)
        r"""Whether what follows a match may undo it: it has `\b`, `\B`, `$` or `\z`."""
        self._search = compiled.search

    def find(self, text: bytes, start: int = 0) -> tuple[int, int] | None:
        r"""Search UTF-8 text from `start` on; give where the first match begins and ends, or None.

        What stands before `start` is context: `^` does not match there, `\b` looks at it.
        """
        found = self._search(text, start)
        return None if found is None else found.span()


def compile_pattern(pattern: str) -> Pattern:
    """Compile an RE2 pattern; raise `PatternError` if it cannot be used.

    Refused are what RE2 does not take (it has no back references and nothing that looks around),
    programs beyond `MAX_SIZE`, and patterns that match the empty text, which would match everywhere.
    """
    if len(pattern) > _MAX_LENGTH:
        raise PatternError(f"it is longer than {_MAX_LENGTH} characters")
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.never_capture = True
    options.log_errors = False
    try:
        compiled = re2._Regexp._make(pattern, tuple(getattr(options, name) for name in re2.Options.NAMES))
    except (re2.error, UnicodeEncodeError) as problem:
        raise PatternError(f"RE2 does not take it: {_reason(problem)}") from None
    made = Pattern(pattern, compiled)
    if made.size > MAX_SIZE:
        raise PatternError(f"it is too large: {made.size} instructions, and {MAX_SIZE} are allowed; repeat less in it")
    if any((found := made.find(probe)) is not None and found[0] == found[1] for probe in _PROBES):
        raise PatternError("it matches the empty text, so it would match everywhere")
    return made


def looks_ahead(source: str) -> bool:
    """Say whether a pattern that RE2 takes has an assertion that looks at what stands behind a match."""
    place = 0
    while place < len(source):
        if source[place] == "$" or source.startswith(("\\b", "\\B", "\\z"), place):
            return True
        if source.startswith("\\Q", place):
            end = source.find("\\E", place + 2)
            place = len(source) if end < 0 else end + 2
        elif source[place] == "[":
            place = _behind_class(source, place)
        else:
            place += 2 if source[place] == "\\" else 1
    return False


def _behind_class(source: str, place: int) -> int:
    """Give where a class of characters ends that begins there."""
    place += 2 if source.startswith("[^", place) else 1
    if source.startswith("]", place):
        place += 1  # first in a class it stands for itself
    while place < len(source) and source[place] != "]":
        if source.startswith("[:", place) and (end := source.find(":]", place)) >= 0:
            place = end + 2
        else:
            place += 2 if source[place] == "\\" else 1
    return place + 1


def _reason(problem: Exception) -> str:
    first = problem.args[0] if problem.args else ""
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(problem)
