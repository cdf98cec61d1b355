"""A wall clock that a test sets while the daemon runs, by Debian's libfaketime.

Only the wall clock is faked: a machine's clock that is set leaves the monotonic one alone. A missing
library fails the test that needs it (`tests/faults/install-tools` brings it).
"""

from __future__ import annotations

from pathlib import Path

_PLACES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)


class WallClock:
    """Set the wall clock of processes that are started with `environ`."""

    def __init__(self, folder: Path) -> None:
        library = next((place for place in _PLACES if Path(place).exists()), None)
        if library is None:
            raise RuntimeError(
                "clock faults need libfaketime (tests/faults/install-tools, or apt-get install faketime)"
            )
        self._file = folder / "faketime"
        self.set("+0")
        self.environ = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Set it relative to the machine's, such as `-3600s`, `+1h`, or `+0 x1.05` for one that runs fast."""
        # in one write: the process may read it at any moment
        made = self._file.with_suffix(".new")
        made.write_text(f"{offset}\n")
        made.replace(self._file)
