"""Show the whole thing on one machine: a simulated upstream, a daemon, recorded example calls."""

from __future__ import annotations

from rtobserver.demo.examples import EXAMPLES, Example, place, place_call
from rtobserver.demo.stand import PAGE, Demo, demonstrating

__all__ = ["EXAMPLES", "PAGE", "Demo", "Example", "demonstrating", "place", "place_call"]
