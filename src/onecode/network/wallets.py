"""Wallets on this machine: the profile that a platform hands out, and a directory for each wallet.

The profile is what a wallet's maker builds in: chain, platform, its pinned root key, addresses. The trust file is
fetched from the platform and believed only under that root.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from onecode.errors import Misconfigured
from onecode.host.clock import now_ms
from onecode.host.files import save_private
from onecode.network.client import PlatformClient
from onecode.wallet.config import WalletConfig
from onecode.wallet.headers import TrustSettings
from onecode.wallet.renewal import renew
from onecode.wallet.store import WalletStore
from onecode.wallet.sync import SyncWallet

PROFILE_FILE, TRUST_FILE = "profile.json", "trust.cbor"
PROFILE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class WalletProfile:
    """Ids and keys in hex. node_urls: the platform's own node first. partners: platforms whose records are accepted."""

    chain_id: str
    platform: str
    platform_name: str
    platform_root: str
    platform_url: str
    node_urls: tuple[str, ...]
    partners: tuple[str, ...] = ()
    allow_solo: bool = False
    header_age_ms_max: int = 30_000

    def config(self, trust_file: bytes) -> WalletConfig:
        """The wallet's configuration with a trust file."""
        return WalletConfig(
            chain_id=self.chain_id,
            platform=bytes.fromhex(self.platform),
            platform_root=bytes.fromhex(self.platform_root),
            platform_url=self.platform_url,
            node_urls=self.node_urls,
            trust_file=trust_file,
            partners=tuple(bytes.fromhex(partner) for partner in self.partners),
            allow_solo=self.allow_solo,
            header_age_ms_max=self.header_age_ms_max,
        )


def load_profile(path: Path) -> WalletProfile:
    """The profile in a JSON file."""
    try:
        given = json.loads(path.read_bytes()[: PROFILE_BYTES_MAX + 1])
        given["node_urls"] = tuple(given["node_urls"])
        given["partners"] = tuple(given.get("partners", ()))
        profile = WalletProfile(**given)
        profile.config(b"")
    except OSError as error:
        raise Misconfigured("wallet.profile_unreadable", f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise Misconfigured("wallet.profile", f"{path} is no wallet profile; ask your platform for one") from None
    return profile


def save_profile(path: Path, profile: WalletProfile) -> None:
    """Write a profile; it holds nothing secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_private(path, json.dumps(asdict(profile), indent=1).encode() + b"\n", replace=True)


def direct() -> httpx.AsyncClient:
    """Connections straight to the addresses of the profile, whatever proxy the environment names."""
    return httpx.AsyncClient(trust_env=False)


def enroll_wallet(directory: Path, profile: WalletProfile) -> bytes:
    """A wallet in `directory`: fetches and verifies the trust file, enrols the device; returns the account's name."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    trust_file = fetch_trust(profile)
    with SyncWallet(profile.config(trust_file), directory, http=direct()) as wallet:
        account = wallet.enroll()
    save_private(directory / TRUST_FILE, trust_file, replace=True)
    save_profile(directory / PROFILE_FILE, profile)
    return account


def profile_of(directory: Path) -> WalletProfile:
    """The profile of the wallet in `directory`."""
    if not (directory / PROFILE_FILE).exists():
        raise Misconfigured("wallet.directory", f"{directory} holds no wallet: enrol one first", field="directory")
    return load_profile(directory / PROFILE_FILE)


def fetch_trust(profile: WalletProfile) -> bytes:
    """The platform's newest trust file, unverified."""
    return PlatformClient(profile.platform_url).trust_file()


def renew_trust(directory: Path, trust_file: bytes, now_ms: Callable[[], int] = now_ms) -> None:
    """Begin from a newer trust file, also where the wallet's own header is past its period, or the chain forked."""
    config = profile_of(directory).config(trust_file)
    settings = TrustSettings(config.platform_root, config.chain_id, config.allow_solo, config.header_age_ms_max)
    renew(WalletStore(directory), trust_file, settings, now_ms())
    save_private(directory / TRUST_FILE, trust_file, replace=True)


def open_wallet(
    directory: Path,
    change: Callable[[WalletConfig], WalletConfig] = lambda config: config,
    http: httpx.AsyncClient | None = None,
) -> SyncWallet:
    """The wallet in `directory`; `change` may adapt its configuration, `http` its connections."""
    profile = profile_of(directory)
    return SyncWallet(change(profile.config((directory / TRUST_FILE).read_bytes())), directory, http=http or direct())
