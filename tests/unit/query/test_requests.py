"""Signed HTTP requests: bound to method, path, body, time and key."""

from __future__ import annotations

from typing import Any

import pytest

from chain_world import CHAIN_ID, NOW_MS, Platform
from onecode.errors import Malformed, OnecodeError
from onecode.proof.leaves import PlatformStatus, Role
from onecode.query.requests import (
    device_header,
    device_key_header,
    member_header,
    parse_member,
    verify_device_key,
    verify_device_request,
    verify_member,
)

A = Platform("A")
B = Platform("B")
MEMBER = ("GET", "/v1/members/merchants/00?service=pay", b"")
DEVICE = ("POST", "/v1/payments", b"{}")


def member(**changes: Any) -> bytes:
    header = member_header(CHAIN_ID, A.id, A.key(Role.TRANSACTION), *MEMBER, NOW_MS)
    given: dict[str, Any] = {"leaf": A.leaf(), "method": MEMBER[0], "path": MEMBER[1], "body": b"", "now_ms": NOW_MS}
    given.update(changes)
    return verify_member(CHAIN_ID, parse_member(header), **given)


def test_a_member_is_known_by_its_keys() -> None:
    assert member() == A.id
    header = member_header(CHAIN_ID, A.id, A.key(Role.KEY_SERVICE), *MEMBER, NOW_MS)
    assert verify_member(CHAIN_ID, parse_member(header), A.leaf(), *MEMBER, NOW_MS) == A.id


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": "POST"}, "signature.bad"),
        ({"path": "/v1/members/merchants/01?service=pay"}, "signature.bad"),
        ({"body": b"x"}, "signature.bad"),
        ({"now_ms": NOW_MS + 60_001}, "request.time"),
        ({"now_ms": NOW_MS - 60_001}, "request.time"),
        ({"leaf": B.leaf()}, "platform.key_unknown"),
        ({"leaf": A.leaf(status=PlatformStatus.SUSPENDED)}, "request.suspended"),
        ({"leaf": A.leaf(active_from_ms=NOW_MS + 1)}, "request.suspended"),
    ],
)
def test_another_request_is_not_the_members(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(OnecodeError) as caught:
        member(**changes)
    assert caught.value.code == code


def test_other_roles_are_no_members() -> None:
    header = member_header(CHAIN_ID, A.id, A.key(Role.DEVICE), *MEMBER, NOW_MS)
    with pytest.raises(OnecodeError) as caught:
        verify_member(CHAIN_ID, parse_member(header), A.leaf(), *MEMBER, NOW_MS)
    assert caught.value.code == "platform.key_unknown"


def device(signed_key: str | None = "k1", **changes: Any) -> bytes:
    header = device_header(CHAIN_ID, A.credential(), A.device, *DEVICE, NOW_MS, signed_key)
    given: dict[str, Any] = {"method": "POST", "path": "/v1/payments", "body": b"{}", "now_ms": NOW_MS}
    given["idempotency_key"] = signed_key
    given.update(changes)
    return verify_device_request(CHAIN_ID, header, A.leaf(), A.id, **given).account


def test_a_device_is_known_by_its_credential() -> None:
    assert device() == b"account-1"
    assert device(None) == b"account-1"


@pytest.mark.parametrize(
    "changes",
    [{"method": "GET"}, {"path": "/v1/refunds"}, {"body": b"[]"}, {"idempotency_key": "k2"}, {"idempotency_key": None}],
)
def test_another_request_is_not_the_devices(changes: dict[str, Any]) -> None:
    with pytest.raises(OnecodeError) as caught:
        device(**changes)
    assert caught.value.code == "signature.bad"


@pytest.mark.parametrize("header", ["", "é", "not base64!", "AAAA", "oA=="])
def test_a_header_that_is_none_is_malformed(header: str) -> None:
    with pytest.raises(Malformed):
        parse_member(header)
    with pytest.raises(Malformed):
        verify_device_request(CHAIN_ID, header, A.leaf(), A.id, *DEVICE, NOW_MS)


ENROLMENT = ("POST", "/v1/devices", b"{}")


def test_a_devices_key_is_shown_by_its_signature() -> None:
    header = device_key_header(CHAIN_ID, A.device, *ENROLMENT, NOW_MS)
    assert verify_device_key(CHAIN_ID, header, *ENROLMENT, NOW_MS) == A.device.public


@pytest.mark.parametrize(
    ("chain_id", "asked", "now_ms", "code"),
    [
        ("other-chain", ENROLMENT, NOW_MS, "signature.bad"),
        (CHAIN_ID, ("GET", "/v1/devices", b"{}"), NOW_MS, "signature.bad"),
        (CHAIN_ID, ("POST", "/v1/devices?", b"{}"), NOW_MS, "signature.bad"),
        (CHAIN_ID, ("POST", "/v1/devices", b"{ }"), NOW_MS, "signature.bad"),
        (CHAIN_ID, ENROLMENT, NOW_MS + 60_001, "request.time"),
        (CHAIN_ID, ENROLMENT, NOW_MS - 60_001, "request.time"),
    ],
)
def test_another_request_does_not_show_a_devices_key(
    chain_id: str, asked: tuple[str, str, bytes], now_ms: int, code: str
) -> None:
    header = device_key_header(CHAIN_ID, A.device, *ENROLMENT, NOW_MS)
    with pytest.raises(OnecodeError) as caught:
        verify_device_key(chain_id, header, *asked, now_ms)
    assert caught.value.code == code


def test_a_members_signature_shows_no_devices_key() -> None:
    header = member_header(CHAIN_ID, A.id, A.key(Role.TRANSACTION), *ENROLMENT, NOW_MS)
    with pytest.raises(Malformed):
        verify_device_key(CHAIN_ID, header, *ENROLMENT, NOW_MS)
