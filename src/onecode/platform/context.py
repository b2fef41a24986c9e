"""What every part of the platform works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onecode.platform.chain import Chain
from onecode.platform.config import PlatformConfig
from onecode.platform.database import Database
from onecode.platform.keyring import Keyring
from onecode.proof.trust import AnchorCertificate


@dataclass(frozen=True, slots=True)
class Platform:
    """One running platform. clock_ms: milliseconds since the epoch, UTC; entropy(n): n fresh random bytes."""

    config: PlatformConfig
    keys: Keyring
    certificate: AnchorCertificate
    database: Database
    chain: Chain
    clock_ms: Callable[[], int]
    entropy: Callable[[int], bytes]

    @property
    def id(self) -> bytes:
        return self.config.platform
