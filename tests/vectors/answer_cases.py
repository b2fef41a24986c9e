"""Makes tests/vectors/answer/*.json and judges them. Deterministic; run after a change of format.

One file a case, named by the step that refuses it and the defect. A file holds all that a wallet has when the answer
arrives, and `expect`. docs/spec/vectors.md describes the fields.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chain_world import CHAIN_ID
from onecode.code.reading import parse_code
from onecode.errors import OnecodeError
from onecode.proof.header import Header, SignedHeader, ValidatorSet
from onecode.proof.leaves import PlatformLeaf
from onecode.proof.light import Trust, trusted_state
from onecode.query.follow import Follower
from onecode.query.messages import Answer, ClearQuery, MatchMode, Query, SecretQuery
from onecode.schema import parse
from onecode.wallet.network import VerifiedNetwork
from onecode.wallet.resolve import Payer, Pending, Resolution, resolve_answer
from onecode.wire import SigningKey, sha256
from vectors import answer_encoding_cases, answer_header_cases, answer_record_cases, answer_state_cases
from vectors.answer_kit import MAKERS, OK
from vectors.answer_scene import QUERY_ID, REPLY_KEY, Draft

HERE = Path(__file__).resolve().parent / "answer"
GROUPS = (answer_encoding_cases, answer_header_cases, answer_state_cases, answer_record_cases)
Case = dict[str, Any]


def make(name: str) -> Case:
    """One case, as its file has it."""
    maker, draft = MAKERS[name], Draft()
    answer = maker.make(draft)
    raw = answer.encoded() if isinstance(answer, Answer) else answer
    asked, scene = draft.asked, draft.scene
    made: Case = {
        "what": maker.make.__doc__,
        "step": int(name[:2]),
        "expect": {"outcome": maker.outcome},
        "now_ms": draft.now_ms,
        "chain_id": CHAIN_ID,
        "trust": {
            "header": draft.trust_header.encoded().hex(),
            "validators": draft.trust_validators.encoded().hex(),
            "trusting_period_ms": draft.trusting_period_ms,
        },
        "verified": [
            {"header": header.encoded().hex(), "validators": validators.encoded().hex(), "now_ms": now_ms}
            for header, validators, now_ms in draft.verified
        ],
        "newest_height": asked["height"],
        "platforms_root": asked["platforms_root"].hex(),
        "platforms": {platform.hex(): leaf.hex() for platform, leaf in sorted(asked["platforms"].items())},
        "platform": scene.a.id.hex(),
        "accepted": [platform.hex() for platform in draft.accepted],
        "mode": draft.mode.name.lower(),
        "query_id": QUERY_ID.hex(),
        "reply_key": REPLY_KEY.hex(),
        "clear": asked["clear"].hex(),
        "code": draft.code,
        "answer": raw.hex(),
    }
    if maker.outcome == OK:
        made["expect"] |= accepted(run(made))
    else:
        made["expect"] |= {"code": maker.code, "without": maker.without}
    return made


def cases() -> dict[str, Case]:
    """Every case by its file's name."""
    return {name: make(name) for name in sorted(MAKERS)}


def run(case: Case) -> Resolution:
    """What a wallet makes of a case, or the error."""
    trusted = trusted_state(parse(Header, unhex(case["trust"]["header"])), validator_set(case["trust"]))
    headers = Follower(Trust(trusted, case["trust"]["trusting_period_ms"]))
    seen = [
        headers.verify_next(parse(SignedHeader, unhex(row["header"])), validator_set(row), row["now_ms"])
        for row in case["verified"]
    ]
    newest = next(header for header in seen if header.header.height == case["newest_height"])
    platforms = {unhex(name): parse(PlatformLeaf, unhex(leaf)) for name, leaf in case["platforms"].items()}
    own, accepted_ids = unhex(case["platform"]), tuple(unhex(platform) for platform in case["accepted"])
    raw_clear = unhex(case["clear"])
    clear = parse(ClearQuery, raw_clear)
    secret = SecretQuery(
        query_id=unhex(case["query_id"]),
        credential=b"-",
        accepted=accepted_ids,
        mode=MatchMode[case["mode"].upper()],
        time_ms=case["now_ms"],
        reply_key=unhex(case["reply_key"]),
    )
    pending = Pending(
        query=Query(clear=raw_clear, suite=1, sealed=b"-"),
        clear=clear,
        secret=secret,
        payer=Payer(case["chain_id"], own, b"-", SigningKey.from_seed(sha256(b"device")), accepted_ids[1:]),
        network=VerifiedNetwork(newest, clear.query_key, platforms, unhex(case["platforms_root"]), platforms[own]),
        newest=newest,
        code=parse_code(case["code"], prefix="oc") if case["code"] else None,
    )
    return resolve_answer(pending, unhex(case["answer"]), headers, case["now_ms"])


def accepted(found: Resolution) -> Case:
    """What an accepted answer establishes, for `expect`."""
    told: Case = {
        "target": {
            "platform": found.target.link.platform.hex(),
            "version": found.target.link.version,
            "commitment": found.target.link.commitment.hex(),
            "record": found.target.signed.record.hex(),
        },
        "others": [record.link.platform.hex() for record in found.others],
        "header_hash": found.target.state.header.header_hash.hex(),
        "signed_ms": found.target.state.header.signed_ms,
        "differences": [difference.code for difference in found.differences],
    }
    if found.order is not None:
        told["order"] = {"amount_minor": found.order.amount_minor, "reference": found.order.reference}
    return told


def verdict(case: Case) -> Case:
    """What this wallet says to a case, in the form of `expect`, without `without`."""
    try:
        found = run(case)
    except OnecodeError as error:
        return {"outcome": error.branch, "code": error.code}
    return {"outcome": OK} | accepted(found)


def validator_set(row: Case) -> ValidatorSet:
    return parse(ValidatorSet, unhex(row["validators"]))


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def text(case: Case) -> str:
    return json.dumps(case, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    table = cases()
    for path in HERE.glob("*.json"):
        if path.stem not in table:
            path.unlink()
    for case_name, made_case in table.items():
        (HERE / f"{case_name}.json").write_text(text(made_case), encoding="ascii")
        got = verdict(made_case)
        wanted = {key: value for key, value in made_case["expect"].items() if key != "without"}
        if got != wanted:
            print("WRONG", case_name, wanted, got)
