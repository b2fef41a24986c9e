"""Whatever parts of whichever answers a node puts together: a wallet takes it for what the chain says, or refuses it.

One chain of five heights, a fork of it by another network, two merchants, two queries; the node holds every enclave's
key and seals what it likes. What each height says is known here, and nothing else may come out.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain_world import CHAIN_ID, MEMBERS, MERCHANT, NOW_MS, make_record
from onecode.errors import Declined, Malformed, OnecodeError, Unreachable, Untrusted
from onecode.proof.leaves import PlatformStatus
from onecode.proof.light import Trust, trusted_state
from onecode.query.follow import Follower
from onecode.query.messages import Answer, ClearQuery, MatchMode, Opened, Query, Result, SecretQuery
from onecode.schema import parse, to_value
from onecode.wallet.network import VerifiedNetwork
from onecode.wallet.resolve import Payer, Pending, Resolution, resolve_answer
from onecode.wire import encode, sha256
from property.altered_values import Donors, altered, reencoded
from vectors.answer_scene import OTHER, QUERY_ID, REPLY_KEY, Draft, Scene
from vectors.proof_chain import signed_by

BRANCHES = (Malformed, Untrusted, Declined, Unreachable)
FIRST = 10


@dataclasses.dataclass
class History:
    """What each height says: the record to pay, or the code of the proven no."""

    draft: Draft
    leaves: dict[bytes, Any]
    answers: list[Any]
    opened: list[Opened]
    sound: dict[int, list[Opened]]
    truth: dict[int, tuple[bytes, int, bytes] | str]
    partner: dict[int, bytes | None]


def change(scene: Scene, height: int) -> None:
    """From one height to the next."""
    a, b = scene.a, scene.b
    if height == 11:
        scene.publish(a, make_record(a.id, version=2, display_name="Noodle Palace"))
    elif height == 12:
        del scene.records[a.id]
    elif height == 13:
        scene.entry_changes = {"frozen_from_ms": 0, "frozen_until_ms": NOW_MS + 1}
    elif height == 14:
        scene.entry_changes = {}
        scene.publish(a, make_record(a.id, version=3))
        scene.leaves[b.id] = b.leaf(status=PlatformStatus.SUSPENDED)


@cache
def history() -> History:
    draft = Draft().ask()
    scene, a, b = draft.scene, draft.scene.a, draft.scene.b
    found = History(draft, dict(scene.leaves), [], [], {}, {}, {})
    for height in range(FIRST, FIRST + 5):
        scene.height = height
        change(scene, height)
        signed = {platform.id: scene.signed[platform.id] for platform in (a, b, scene.c)}
        found.opened += [Opened(platform=to, signed_record=one.encoded()) for to in signed for one in signed.values()]
        found.opened.append(draft.opened(a, scene.other_signed))
        target = a if a.id in scene.records else b
        found.sound[height] = [draft.opened(target), draft.opened(b)][: 1 if target is b else 2]
        link = scene.records[target.id][0]
        found.truth[height] = (target.id, link.version, link.commitment)
        found.partner[height] = scene.records[b.id][0].commitment
        given = draft.answer(header=scene.header(), validators=MEMBERS, platforms=scene.proven_platforms())
        foreign = dataclasses.replace(given.header.header, chain_id="onecode-other")  # type: ignore[union-attr]
        votes = signed_by(foreign, [1, 2, 3, 4], [NOW_MS - 1000] * 4)
        stale = signed_by(given.header.header, [1, 2, 3, 4], [NOW_MS - 31_000] * 4)  # type: ignore[union-attr]
        other = draft.merchant(OTHER)
        absent = scene.proven_merchant(sha256(b"nobody")[:20])
        for changes in ({}, {"header": votes}, {"header": stale}, {"merchant": other}, {"merchant": absent}):
            found.answers.append(to_value(dataclasses.replace(given, **changes)))  # type: ignore[arg-type]
    found.truth[13] = "merchant.frozen"
    found.partner[14] = None  # suspended
    return found


@cache
def donors() -> Donors:
    return Donors(history().answers)


def resolve(raw: bytes, mode: MatchMode) -> Resolution:
    past = history()
    draft, scene = past.draft, past.draft.scene
    headers = Follower(Trust(trusted_state(draft.trust_header, MEMBERS)))
    newest = headers.verify_next(*draft.verified[0])
    clear = draft.asked["clear"]
    own = scene.a.id
    secret = SecretQuery(
        query_id=QUERY_ID, credential=b"-", accepted=draft.accepted, mode=mode, time_ms=NOW_MS, reply_key=REPLY_KEY
    )
    known = past.leaves
    pending = Pending(
        query=Query(clear=clear, suite=1, sealed=b"-"),
        clear=parse(ClearQuery, clear),
        secret=secret,
        payer=Payer(CHAIN_ID, own, b"-", scene.a.device, draft.accepted[1:]),
        network=VerifiedNetwork(newest, b"k" * 32, known, draft.asked["platforms_root"], known[own]),
        newest=newest,
        code=None,
    )
    return resolve_answer(pending, raw, headers, NOW_MS)


def sealed(draw: Any, height: Any) -> bytes:
    """What a node with the enclave's key seals: the records it likes under the names it likes, or a refusal."""
    draft = history().draft
    opened = list(history().sound.get(height, []))[: draw(st.integers(1, 2))]
    if not draw(st.integers(0, 2)):
        opened = draw(st.lists(st.sampled_from(history().opened), max_size=3), label="opened")
    result = Result(query_id=QUERY_ID, opened=tuple(opened))
    odd = draw(st.sampled_from([""] * 12 + ["query", "refusal", "key", "clear", "chain"]), label="seal")
    if odd == "query":
        result = dataclasses.replace(result, query_id=bytes(16))
    if odd == "refusal":
        branch = draw(st.sampled_from(["Declined", "Untrusted", "Malformed", "Unreachable", "Nonsense"]))
        result = dataclasses.replace(result, refusal="merchant.absent", branch=branch)
    return draft.seal(
        result,
        reply_key=bytes(32) if odd == "key" else REPLY_KEY,
        clear=draft.asked["clear"].replace(MERCHANT, OTHER) if odd == "clear" else None,
        chain_id="onecode-other" if odd == "chain" else CHAIN_ID,
    )


def require_truth(found: Resolution) -> None:
    past, state = history(), found.target.state
    height = state.header.header.height
    assert state.header.header.chain_id == CHAIN_ID
    assert state.merchant == MERCHANT
    assert (found.target.link.platform, found.target.link.version, found.target.link.commitment) == past.truth[height]
    assert found.target.record.platform == found.target.link.platform
    assert found.target.record.version == found.target.link.version
    assert [other.link.commitment for other in found.others] in ([], [past.partner[height]])


def test_the_honest_answers_are_taken() -> None:
    for height, answer in zip(range(FIRST, FIRST + 5), history().answers[::5], strict=True):
        seal = history().draft.seal(Result(query_id=QUERY_ID, opened=tuple(history().sound[height][:1])))
        raw = encode(answer | {8: seal})
        if isinstance(history().truth[height], str):
            with pytest.raises(Declined) as caught:
                resolve(raw, MatchMode.NODE)
            assert caught.value.code == history().truth[height]
        else:
            require_truth(resolve(raw, MatchMode.NODE))


@given(st.data())
def test_no_answer_put_together_is_taken_for_another_result(data: st.DataObject) -> None:
    answers = history().answers
    answer = data.draw(st.sampled_from([*answers[::5] * 8, *answers]), label="answer")
    message = altered(data.draw, answer, donors(), data.draw(st.integers(0, 4), label="changes"))
    if isinstance(message, dict) and 8 in message:
        message = message | {8: sealed(data.draw, message.get(1))}
    raw = reencoded(data.draw, encode(message))
    try:
        found = resolve(raw, data.draw(st.sampled_from(MatchMode)))
    except Declined as error:
        heights = [answer[1] for answer in history().answers]
        assert error.code in {history().truth[height] for height in heights if height in history().truth}
        return
    except OnecodeError as error:
        assert isinstance(error, BRANCHES)
        return
    require_truth(found)


def test_the_messages_are_answers() -> None:
    for answer in history().answers:
        assert parse(Answer, encode(answer)).encoded() == encode(answer)
