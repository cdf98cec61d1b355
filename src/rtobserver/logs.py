"""Set up structured logs: fixed event names, one JSON object or one readable line each, on stderr.

What this must not do: print secrets. Nobody should hand one over; `_hide` is the second line of
defence and goes by the names of fields. SDP, transcripts, frames and query strings are never
logged at all, which no filter can promise for us.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

Format = Literal["json", "console"]

_SECRET_NAMES = frozenset({"api_key", "authorization", "token", "secret", "password", "key", "cookie", "sdp", "offer"})


def set_up(format_: Format, *, debug: bool = False) -> None:
    """Send all logs to stderr in one format; called once, by the command line."""
    level = logging.DEBUG if debug else logging.INFO
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide,
    ]
    renderer: list[structlog.types.Processor]
    if format_ == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # plain tracebacks: the pretty ones print the values of local variables
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # libraries speak through the standard module; their debug lines hold headers and addresses
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _hide(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in _SECRET_NAMES & event.keys():
        event[name] = "***"
    return event
