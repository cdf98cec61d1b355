"""Look into a database now and then, and say how far each of some calls is committed: `python -m tests.faults.looks …`.

In a process of its own: whoever plays upstream in a flood has no time to look at a clock.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing

LOOK = 0.05
"""Seconds between two looks."""
NEWEST = (
    "SELECT epoch, seq FROM entry WHERE (call_key, day) = (SELECT call_key, day FROM call WHERE call_id = ?)"
    " ORDER BY epoch DESC, seq DESC LIMIT 1"
)


def main() -> None:
    """Look, until nobody reads what is said."""
    path, *call_ids = sys.argv[1:]
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        while True:
            rows = [(call_id, connection.execute(NEWEST, (call_id,)).fetchone()) for call_id in call_ids]
            # the time behind the look: what it shows was committed by then
            sys.stdout.write(json.dumps([time.time(), {call_id: row for call_id, row in rows if row}]) + "\n")
            sys.stdout.flush()
            time.sleep(LOOK)


if __name__ == "__main__":
    main()
