"""Every refusal has a literal code of one branch, and docs/errors.md is what the source raises."""

from __future__ import annotations

import pytest

import error_catalogue as catalogue

BAD_SITES = [
    'raise Malformed(code, "text")',
    'raise Malformed(f"wire.{x}", "text")',
    'raise Malformed(code="wire.x")',
    "raise Malformed()",
    'raise errors.Untrusted("Not A Code", "text")',
    'raise Declined("nodot", "text")',
    'raise Declined("a.b")',
    'raise Malformed("a.b", "text", status=500)',
    'raise OnecodeError("a.b", "text")',
]


@pytest.mark.parametrize("source", BAD_SITES)
def test_a_bad_site_is_seen(source: str) -> None:
    with pytest.raises(catalogue.BadSite):
        list(catalogue.sites_in(source, "sample"))


def test_a_code_in_two_branches_is_seen() -> None:
    sites = list(catalogue.sites_in('Malformed("a.b", "x")\nDeclined("a.b", "x")', "sample"))
    with pytest.raises(catalogue.BadSite):
        catalogue.branches_of(sites)


def test_a_site_is_read_in_full() -> None:
    source = 'raise errors.Malformed("a.b_c", f"{size} bytes " + "at most", field="x", status=413)'
    assert list(catalogue.sites_in(source, "m")) == [
        catalogue.Site("a.b_c", "Malformed", 413, "{size} bytes at most", "m"),
    ]


def test_each_code_of_the_source_belongs_to_one_branch() -> None:
    assert catalogue.branches_of(catalogue.all_sites())


def test_the_catalogue_is_current() -> None:
    current = catalogue.CATALOGUE.read_text("utf-8") if catalogue.CATALOGUE.exists() else ""
    assert current == catalogue.render(catalogue.all_sites()), "docs/errors.md is out of date: run `make docs`"
