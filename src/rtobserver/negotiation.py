"""Take an offer to upstream and bring the answer back; register the call and start its observer.

The offer is relayed byte for byte. Nothing is retried after bytes of `POST calls` were sent: a
second paid call would be the result. Storage and the attach never delay the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rtobserver.config.sections import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Be what a browser asks for: SDP, and what it would like of the session."""

    sdp: bytes
    session: Mapping[str, Any] | None = None
    """The browser's `session` part, taken only as far as the profile's `client_session_keys` allow."""
    webrtcfilter: str | None = None
    """The browser's query value, heeded only where the profile says `client`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Be whom a call is for, after all checks."""

    profile: Profile
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    token_id: str | None = None
    """Id of the sealed token that was presented, or None."""
    session: Mapping[str, Any] | None = None
    """The `session` that was sealed into the token, treated as a browser's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Be the answer for the browser."""

    sdp: bytes
    call_id: str | None
    """None where upstream gave no usable id: the call goes on unobserved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """Be an upstream client secret that is given out (`token_mode = "passthrough"`)."""

    value: str
    expires_at: int
    session: Mapping[str, Any]


class Negotiation:
    """Negotiate calls."""

    async def negotiate(self, offer: Offer, caller: Caller) -> Answered:
        """Bring an offer to upstream and give its answer.

        Raises:
            RequestError: 503 while draining, 429 where a limit is reached.
            UpstreamError: upstream did not answer as it should; the call's row says how.

        """
        raise NotImplementedError

    def undelivered(self, answered: Answered) -> None:
        """Hang up, in the background, a call whose browser was gone before the answer was written."""
        raise NotImplementedError

    async def hang_up(self, call_id: str, *, token_id: str | None, user: str | None) -> bool:
        """End a live call for whoever opened it; False where there is none for this caller."""
        raise NotImplementedError

    async def mint(self, caller: Caller) -> Minted:
        """Mint an upstream client secret to give out as it is."""
        raise NotImplementedError
