"""Payers' devices: enrolment in the sandbox, credentials of at most 24 h, and who may act for an account."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from onecode.errors import Declined, Untrusted
from onecode.platform.books import funding_transfers
from onecode.platform.context import Platform
from onecode.platform.ledger import post_journal
from onecode.platform.schema import Device, PayerAccount
from onecode.query.credential import sign_credential
from onecode.query.messages import Credential
from onecode.query.requests import verify_device_request

ACCOUNT_BYTES = 16
CREDENTIAL_SKEW_MS = 60_000  # valid a little earlier, so that a verifier's clock may be behind


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a device gets: the encoded `SignedCredential`, its account, and when the credential ends."""

    credential: bytes
    account: bytes
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class DeviceCall:
    """A request as the device signed it. path: with its query string; proof: the header's value."""

    method: str
    path: str
    body: bytes
    proof: str
    idempotency_key: str | None


def verify_call(platform: Platform, call: DeviceCall) -> Credential:
    """The credential of the device that signed this request.

    1. The platform's own leaf is proven under a fresh header. 2. The request is signed by a device whose credential one
    of the platform's device keys signed (`verify_device_request`). 3. The device is enrolled, not blocked, and its
    account is the credential's. Does NOT protect against a request sent twice: the idempotency key does.
    """
    leaf = platform.chain.own_leaf()  # 1
    credential = verify_device_request(  # 2
        platform.config.chain_id,
        call.proof,
        leaf,
        platform.id,
        call.method,
        call.path,
        call.body,
        platform.clock_ms(),
        call.idempotency_key,
    )
    with platform.database.read() as session:  # 3
        device = session.get(Device, credential.device)
    if device is None or device.blocked or device.account != credential.account:
        raise Untrusted("device.unknown", "the device is not enrolled here, or is blocked", field="device", status=403)
    return credential


def issue_credential(platform: Platform, device: bytes, account: bytes) -> Enrolment:
    """A fresh credential for an enrolled device."""
    now_ms = platform.clock_ms()
    valid_until_ms = now_ms - CREDENTIAL_SKEW_MS + platform.config.credential_ms
    credential = Credential(
        platform=platform.id,
        device=device,
        account=account,
        valid_from_ms=now_ms - CREDENTIAL_SKEW_MS,
        valid_until_ms=valid_until_ms,
    )
    signed = sign_credential(platform.config.chain_id, credential, platform.keys.device)
    return Enrolment(signed, account, valid_until_ms)


def enrol(platform: Platform, device: bytes, account: bytes | None, call: DeviceCall | None) -> Enrolment:
    """Enrol a device in the sandbox: with a new account, funded with simulated money, or as a further device of one.

    device: a key whose holder signed this request (`verify_device_key`); else a stranger could enrol it first, and its
    own enrolment would answer with the stranger's account. A known device gets a new credential for its account. An
    account that exists is joined only on a request that a device of it signed too (`call`).
    """
    if not platform.config.sandbox:
        raise Declined("device.no_sandbox", "this platform enrols no devices by itself: it is no sandbox")
    joins = None
    if account is not None and call is not None:
        joins = verify_call(platform, call).account
    now_ms = platform.clock_ms()
    with platform.database.write() as session:
        known = session.get(Device, device)
        if known is not None:
            if known.blocked or account not in (None, known.account):
                raise Untrusted("device.taken", "the device is blocked, or of another account", status=403)
            return issue_credential(platform, device, known.account)
        if account is None:
            account = platform.entropy(ACCOUNT_BYTES)
        if session.get(PayerAccount, account) is None:
            count = session.scalar(select(func.count()).select_from(PayerAccount)) or 0
            if count >= platform.config.sandbox_accounts_max:
                raise Declined("device.sandbox_full", "the sandbox has all the accounts that it may have")
            session.add(PayerAccount(account=account, created_ms=now_ms))
            transfers = funding_transfers(account, platform.config.sandbox_opening_minor)
            if transfers:
                post_journal(session, f"funding/{account.hex()}", transfers, now_ms)
        elif joins != account:
            raise Untrusted(
                "device.account", "the account exists: sign the request with a device of it", field="account"
            )
        session.flush()
        session.add(Device(device=device, account=account, blocked=False, created_ms=now_ms))
    return issue_credential(platform, device, account)
