"""The project's own code vectors: each file is read, verified or refused exactly as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onecode.code.order import verify_order
from onecode.code.reading import Code, ForeignCode, PrintedOrder, parse_code
from onecode.errors import OnecodeError
from vectors.code import make_vectors

FILES = sorted(make_vectors.HERE.glob("*.json"))


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, PrintedOrder):
        found = {name: getattr(value, name) for name in ("amount_minor", "reference", "expiry_ms")}
        return found | {"currency": value.currency.numeric}
    return value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    vector = json.loads(path.read_text("utf-8"))
    keys = [bytes.fromhex(key) for key in vector["order_keys"]]

    def parse() -> Code | ForeignCode:
        return parse_code(vector["payload"], prefix=vector["prefix"])

    if "error" not in vector:
        code = parse()
        expect = vector["expect"]
        if isinstance(code, ForeignCode):
            found = [{"template": source.template, "guid": source.guid, "subs": source.subs} for source in code.sources]
            assert expect == {"foreign": found}
            return
        assert [deviation.object for deviation in code.deviations] == expect.pop("deviations", [])
        assert {name: plain(getattr(code, name)) for name in expect} == expect
        if code.order is not None:
            verified = verify_order(code, keys, vector["chain_id"], vector["now_ms"])
            assert (verified.amount_minor, verified.order_key) == (expect["order"]["amount_minor"], keys[0])
        return
    code = parse() if vector["error"]["step"] == "verify" else None
    with pytest.raises(OnecodeError) as refused:
        if code is None:
            parse()
        else:
            assert isinstance(code, Code)
            verify_order(code, keys, vector["chain_id"], vector["now_ms"])
    error = refused.value
    assert {"branch": error.branch, "code": error.code, "field": error.field} | {"step": vector["error"]["step"]} == (
        vector["error"]
    )


def test_the_files_are_what_the_source_makes() -> None:
    made = make_vectors.all_vectors()
    assert {path.stem for path in FILES} == set(made)
    for path in FILES:
        assert json.loads(path.read_text("utf-8")) == made[path.stem], path.stem
