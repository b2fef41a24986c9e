"""The error tree: what a caller, an HTTP client and a shell see of it."""

from __future__ import annotations

import pytest

from onecode.errors import (
    BRANCHES,
    DETAIL_CHARS_MAX,
    Declined,
    Malformed,
    Misconfigured,
    OnecodeError,
    Unreachable,
    Untrusted,
    answer_error,
    from_problem,
    json_object,
)


def test_branches_have_distinct_names_and_exit_codes() -> None:
    assert (Malformed, Untrusted, Declined, Unreachable, Misconfigured) == BRANCHES
    assert len({kind.branch for kind in BRANCHES}) == 5
    assert len({kind.exit_code for kind in BRANCHES} | {0, 1, OnecodeError.exit_code}) == 8
    assert [kind.branch for kind in BRANCHES] == [kind.__name__ for kind in BRANCHES]


@pytest.mark.parametrize(
    ("kind", "status"), [(Malformed, 400), (Untrusted, 401), (Declined, 409), (Unreachable, 503), (Misconfigured, 500)]
)
def test_each_branch_has_its_default_status(kind: type[OnecodeError], status: int) -> None:
    assert kind("a.b", "text").status == status


def test_a_status_of_the_branch_is_kept_and_any_other_is_not() -> None:
    assert Malformed("a.b", "text", status=413).status == 413
    assert Malformed("a.b", "text", status=500).status == 400
    assert Unreachable("a.b", "text", status=429).status == 429


def test_the_text_names_field_and_code() -> None:
    assert str(Malformed("a.b", "must be short", field="record.name")) == "must be short (field record.name) [a.b]"
    assert str(Declined("a.b", "no")) == "no [a.b]"


@pytest.mark.parametrize("kind", BRANCHES)
def test_a_problem_comes_back_as_the_same_error(kind: type[OnecodeError]) -> None:
    error = kind("a.b", "text", field="x[1]", status=kind.statuses[-1], retry_after_ms=250)
    back = from_problem(error.problem())
    assert type(back) is kind
    assert vars(back) == vars(error)


def test_a_problem_holds_the_members_of_rfc_9457() -> None:
    assert Untrusted("proof.root", "text").problem() == {
        "type": "urn:onecode:error:proof.root",
        "title": "Untrusted",
        "status": 401,
        "detail": "text",
        "code": "proof.root",
    }


@pytest.mark.parametrize("body", [{}, {"title": "Teapot", "status": 418}, {"title": 7, "status": "409", "code": None}])
def test_a_body_that_is_not_ours_is_unreachable(body: dict[str, object]) -> None:
    error = from_problem(body)
    assert type(error) is Unreachable
    assert error.status == 503


@pytest.mark.parametrize("data", [b"[" * 200_000, b"{", b"\xff", b"[]", b"1", b""])
def test_bytes_that_hold_no_json_object_are_none(data: bytes) -> None:
    """Nested too deep for the parser is no reason to stop asking other nodes."""
    assert json_object(data) is None
    assert answer_error(502, data).code == "http.status"


def test_a_servers_words_reach_no_terminal_as_they_are() -> None:
    body = {"title": "Declined", "code": "x\x1b[2J", "detail": "no\x1b[31m\u202etxt\n" + "y" * 1000, "field": "a\x07"}
    error = from_problem(body)
    assert (error.code, error.field) == ("http.unknown", "a\ufffd")
    assert error.message.isprintable() and len(error.message) == DETAIL_CHARS_MAX
