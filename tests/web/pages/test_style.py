"""The colours of both themes can be told apart (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SHEET = Path(__file__).resolve().parents[3] / "src" / "rtobserver" / "web" / "pages" / "assets" / "style.css"
TOKENS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"^  --([a-z-]+): light-dark\((#[0-9a-f]+), (#[0-9a-f]+)\);", SHEET.read_text(), re.MULTILINE
    )
}
GROUNDS = ("paper", "panel")
STATES = ("good", "warn", "bad", "user", "assistant", "tool", "policy")


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_the_standard_has_it() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *((text, ground) for text in ("ink", "muted", "accent", *STATES) for ground in GROUNDS),
        *((state, f"{state}-ground") for state in STATES),
        *(("ink", f"{state}-ground") for state in STATES),
        ("on-accent", "accent"),
        ("paper", "ink"),
    ],
)
def test_text_can_be_read(text: str, ground: str, theme: int) -> None:
    assert contrast(TOKENS[text][theme], TOKENS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_what_can_be_used_and_where_one_is_can_be_seen(ground: str, theme: int) -> None:
    for edge in ("edge", "accent"):
        assert contrast(TOKENS[edge][theme], TOKENS[ground][theme]) >= 3
