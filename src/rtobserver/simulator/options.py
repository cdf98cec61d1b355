"""What a simulator is told when it is made."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rtobserver.errors import ConfigError, Mistake
from rtobserver.simulator.faults import Faults
from rtobserver.simulator.ids import Provider
from rtobserver.simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """Set up a simulator.

    Raises: ConfigError, if `ice_host` is not addresses.
    """

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free one."""
    provider: Provider = "azure"
    scenario: str | Scenario = "default"
    """A shipped scenario's name, the path of a TOML file, or a scenario."""
    scenario_for: Callable[[str, int], Scenario] | None = None
    """Choose the scenario of each call from its offer and its number (from 1); goes before `scenario`."""
    recording: Path | None = None
    """Play this recorded call in every call, instead of a scenario."""
    pace: float = 1.0
    """How long a second of the conversation is, in real seconds; 0 waits for nothing."""
    begin: Literal["answered", "attached"] = "answered"
    """When the conversation begins: with the answer, as in life, or when the first sideband is there."""
    api_key: str = "sim-key"
    entra_tokens: tuple[str, ...] = ()
    """Bearers that Azure takes as Entra tokens, besides anything that looks like a JWT."""
    models: tuple[str, ...] = ()
    """Deployments that exist; empty is any."""
    ledger: Path | None = None
    remember: bool = True
    """Keep every frame and request in memory, for tests in process; off for long runs."""
    media: bool = False
    """Answer offers by aiortc (extra `demo`), with sound and a data channel."""
    ice_host: str = "127.0.0.1"
    """Address in the answer's candidates; with media several, comma-separated, each of this machine."""
    consent_seconds: float | None = None
    """When a caller that vanished without a goodbye counts as gone, 3 s at least; None is as aiortc has it, 30 s."""
    connect_seconds: float = 60.0
    """How long a call with media waits for its caller to connect before it ends."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    faults: Faults = field(default_factory=Faults)
    """If none is set, the scenario's apply."""
    seed: int | None = None
    """Makes the random part of ids repeat."""

    def __post_init__(self) -> None:
        # found now, or it would be found by the first caller
        if mistakes := [_not_an_address(text) for text in self.ice_hosts if not _is_usable(text)]:
            raise ConfigError(mistakes)

    @property
    def ice_hosts(self) -> list[str]:
        """Give the addresses for media."""
        return [text.strip() for text in self.ice_host.split(",")]


def _is_usable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # nobody can send to either
    return not (address.is_unspecified or address.is_multicast)


def _not_an_address(text: str) -> Mistake:
    remedy = "give addresses of this machine, comma-separated, such as 127.0.0.1,192.0.2.7"
    return Mistake("ice_host", f"{text!r} is no address that media can come to", remedy)
