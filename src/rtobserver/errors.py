"""Every error that rtobserver raises on purpose, divided by whose fault it is.

    RtobserverError
      ConfigError          the operator's; carries every mistake of the file      exit 2
      RequestError         the caller's; becomes a 4xx problem document
      UpstreamError        the Realtime API's
        UpstreamRefused      it answered 4xx
        UpstreamUnavailable  network, 5xx
        UpstreamTimeout      no answer within the deadline
        UpstreamBroken       it answered something that the protocol does not know
          CallUnobservable     it did not name the call, and the profile wants every call observed
        CredentialError      no credential could be had for it
      OutboundError        that of a tool's endpoint or a webhook
      StoreError           the database's
        StoreUnavailable     worth trying again
        StoreBusy            another process holds the file                       exit 1
        SchemaMismatch       the schema is not the one this release needs         exit 3
      ApiError             that of a daemon whose API we are the client of        exit 1
        ApiRefused           it answered a problem document; 2 for wrong usage
        ApiUnreachable       it cannot be reached, or broke off its answer

Attributes hold the facts, `str()` makes the sentence. Web status codes are chosen in
`web/problems.py`, exit codes in `cli.py`, nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass


class RtobserverError(Exception):
    """Be the root of all errors below."""


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """Say what is wrong at one place of a configuration."""

    path: str
    """Dotted key path, such as `profile[0].session.model`; empty for the file as a whole."""
    problem: str
    """What is wrong, in plain words."""
    help: str = ""
    """What to do about it."""
    file: str = ""
    """The file in which it stands, where there are several."""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.path) if part)
        sentence = f"{where}: {self.problem}" if where else self.problem
        return f"{sentence}\n    {self.help}" if self.help else sentence


class ConfigError(RtobserverError):
    """Refuse a configuration, naming all its mistakes at once."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        count = len(self.mistakes)
        head = f"{count} mistake{'s' if count != 1 else ''} in the configuration"
        return "\n".join([head, *(str(mistake) for mistake in self.mistakes)])


class RequestError(RtobserverError):
    """Refuse a caller's request."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, 4xx or 503."""
        self.code = code
        """Machine-readable word, such as `invalid_offer`."""
        self.message = message
        self.retry_after = retry_after
        """Seconds for a Retry-After header, or None."""


class UpstreamError(RtobserverError):
    """Report that the Realtime API did not do what was asked."""


class UpstreamRefused(UpstreamError):
    """Report a 4xx answer.

    `message` is upstream's own sentence, or empty where it must not be passed on: the bodies of
    401 and 403 echo parts of the key (protocol.md 1.3).
    """

    def __init__(self, status: int, code: str = "", message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        """Seconds that upstream asked to wait, already capped; None if it did not say."""

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        return f"upstream answered {self.status}{code}"


class UpstreamUnavailable(UpstreamError):
    """Report that upstream could not be reached or failed by itself (network, 5xx)."""

    def __init__(self, detail: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after


class UpstreamTimeout(UpstreamError):
    """Report that upstream gave no answer within the deadline."""


class UpstreamBroken(UpstreamError):
    """Report an answer that the protocol does not know, such as a 201 without SDP."""


class CallUnobservable(UpstreamBroken):
    """Report an accepted call without a usable id, whose answer is withheld."""


class CredentialError(UpstreamError):
    """Report that no credential for upstream could be had."""


class OutboundError(RtobserverError):
    """Report that an address of the configuration did not take or answer what it was sent.

    `problem` is a sentence without its end that repeats nothing which was sent or received.
    """

    def __init__(self, outcome: str, problem: str, *, may_pass: bool = False, retry_after: float | None = None) -> None:
        super().__init__(outcome, problem)
        self.outcome = outcome
        """`unreachable`, `refused`, `timeout` or `broken`."""
        self.problem = problem
        self.may_pass = may_pass
        """Whether the same request may succeed a little later."""
        self.retry_after = retry_after
        """Seconds that it asked to wait, already capped; None if it did not say."""

    def __str__(self) -> str:
        return self.problem


class StoreError(RtobserverError):
    """Report that the database did not do what was asked."""


class StoreUnavailable(StoreError):
    """Report a passing failure of the database."""


class StoreBusy(StoreError):
    """Report that another process holds the database file."""


class SchemaMismatch(StoreError):
    """Report that the database's schema is not the one that this release needs."""

    def __init__(self, found: str | None, needed: str) -> None:
        super().__init__(found, needed)
        self.found = found
        self.needed = needed

    def __str__(self) -> str:
        if self.found is None:
            return f"the database has no schema yet; run `rtobserver migrate` (needs {self.needed})"
        if self.found > self.needed:
            return f"the database has schema {self.found}, newer than this release's {self.needed}; install a newer one"
        return f"the database has schema {self.found}, this release needs {self.needed}; run `rtobserver migrate`"


class ApiError(RtobserverError):
    """Report that a daemon did not do what its client asked."""


class ApiRefused(ApiError):
    """Report a problem document."""

    def __init__(self, status: int, code: str, message: str, request_id: str = "") -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code
        """Machine-readable word, such as `call_not_found`."""
        self.message = message
        self.request_id = request_id
        """The daemon's log has the details under this id."""

    def __str__(self) -> str:
        return f"{self.message} ({self.status} {self.code})" if self.code else f"the daemon answered {self.status}"


class ApiUnreachable(ApiError):
    """Report that there was no answer, or that it broke off."""
