"""Offers and answers without media: enough of SDP to refuse a bad offer and to answer as the vendor does."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rtobserver.simulator.ids import Ids, Provider

_FINGERPRINT = ":".join(f"{number:02X}" for number in range(32))
_CODECS = ("a=rtpmap:{0} opus/48000/2", "a=fmtp:{0} minptime=10;useinbandfec=1", "a=rtpmap:0 PCMU/8000",
           "a=rtpmap:8 PCMA/8000")  # fmt: skip


class BadOffer(Exception):
    """Report that an offer cannot be parsed."""


@dataclass(frozen=True, slots=True)
class MediaLine:
    """Hold what an answer has to know of one `m=` section."""

    kind: str
    mid: str
    opus: str


def parse_offer(offer: str) -> list[MediaLine]:
    """Read the sections of an offer.

    Raises: BadOffer, for what upstream's parser refuses (a JSON-escaped text, a missing last newline).
    """
    if not offer.startswith("v=0"):
        raise BadOffer("sdp: invalid syntax `v=`")
    if not offer.endswith("\n"):
        raise BadOffer("EOF")
    lines = offer.splitlines()
    for line in lines:
        if len(line) < 2 or line[1] != "=":
            raise BadOffer(f"sdp: invalid syntax `{line[:20]}`")
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        if sections:
            sections[-1].append(line)
    if not sections:
        raise BadOffer("the offer has no media section")
    if not any(line.startswith("a=ice-ufrag:") for line in lines):
        raise BadOffer("SetRemoteDescription called with no ice-ufrag")
    if not any(line.startswith("a=fingerprint:") for line in lines):
        raise BadOffer("SetRemoteDescription called with no fingerprint")
    return [_media_line(position, section) for position, section in enumerate(sections)]


def answer_offer(media: list[MediaLine], provider: Provider, ids: Ids, ice_host: str) -> str:
    """Write an answer in the shape that the recordings show; no media will ever flow."""
    ufrag = ids.letters(8)
    if provider == "azure":
        ufrag += "/realtime-api-vmss-prod-simulated-1"
    else:
        ufrag = f"{ids.letters(6)}/u2/{ids.letters(6)}"
    password = ids.letters(32)
    lines = [
        "v=0",
        f"o=- {int(ids.hexadecimal(15), 16)} {int(time.time())} IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=msid-semantic:WMS *",
        f"a=fingerprint:sha-256 {_FINGERPRINT}",
        *(["a=ice-lite"] if provider == "openai" else []),
        f"a=group:BUNDLE {' '.join(line.mid for line in media)}",
    ]
    for line in media:
        lines += _section(line, ufrag, password, _candidates(provider, ufrag, ice_host))
    return "".join(f"{line}\r\n" for line in lines)


def _media_line(position: int, section: list[str]) -> MediaLine:
    kind = section[0][2:].split(" ", 1)[0]
    mid = next((line[6:] for line in section if line.startswith("a=mid:")), str(position))
    opus = next((line[9:].split(" ")[0] for line in section if "opus/48000" in line.lower()), "96")
    return MediaLine(kind, mid, opus)


def _candidates(provider: Provider, ufrag: str, host: str) -> list[str]:
    if provider == "openai":
        return [
            f"a=candidate:1352698770 1 udp 2130706431 {host} 3478 typ host ufrag {ufrag}",
            f"a=candidate:2321888134 1 tcp 1671430143 {host} 443 typ host tcptype passive ufrag {ufrag}",
        ]
    udp = [f"a=candidate:251932399 {part} udp 2130706431 {host} 3478 typ host ufrag {ufrag}" for part in (1, 2)]
    tcp = [
        f"a=candidate:3002556175 {part} tcp 1671430143 {host} 3478 typ host tcptype passive ufrag {ufrag}"
        for part in (1, 2)
    ]
    return [*udp, *tcp, "a=end-of-candidates"]


def _section(line: MediaLine, ufrag: str, password: str, candidates: list[str]) -> list[str]:
    credentials = [f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{password}"]
    if line.kind == "audio":
        return [
            f"m=audio 9 UDP/TLS/RTP/SAVPF {line.opus} 0 8",
            "c=IN IP4 0.0.0.0",
            "a=setup:active",
            f"a=mid:{line.mid}",
            *credentials,
            "a=rtcp-mux",
            "a=rtcp-rsize",
            *(codec.format(line.opus) for codec in _CODECS),
            "a=ssrc:2507504125 cname:realtimeapi",
            "a=ssrc:2507504125 msid:realtimeapi audio",
            "a=ssrc:2507504125 mslabel:realtimeapi",
            "a=ssrc:2507504125 label:audio",
            "a=msid:realtimeapi audio",
            "a=sendrecv",
            *candidates,
        ]
    if line.kind == "application":
        return [
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            "a=setup:active",
            f"a=mid:{line.mid}",
            "a=sendrecv",
            "a=sctp-port:5000",
            "a=max-message-size:1073741823",
            *credentials,
        ]
    return [f"m={line.kind} 0 UDP/TLS/RTP/SAVPF 0", "c=IN IP4 0.0.0.0", f"a=mid:{line.mid}", "a=inactive"]
