"""Answer cases, step 00: the answer's bytes. The same value in another encoding, cut short, or with more in it."""

from __future__ import annotations

import dataclasses

from onecode.errors import Malformed
from onecode.query.messages import Answer, MatchMode
from onecode.wire import encode
from vectors.answer_kit import case
from vectors.answer_scene import Draft, assemble, fields_of


@case("00-ok-node-match")
def honest(d: Draft) -> Answer:
    """the honest answer in mode node"""
    return d.answer()


@case("00-ok-wallet-match")
def honest_wallet(d: Draft) -> Answer:
    """the honest answer in mode wallet: the partner's record beside the own"""
    d.mode = MatchMode.WALLET
    return d.answer(d.result(d.opened(d.scene.a), d.opened(d.scene.b)))


@case("00-empty", Malformed, "wire.truncated", without=None)
def empty(d: Draft) -> bytes:
    """no byte"""
    d.ask()
    return b""


@case("00-truncated", Malformed, "wire.truncated", without=None)
def truncated(d: Draft) -> bytes:
    """the last byte is missing"""
    return d.answer().encoded()[:-1]


@case("00-trailing-byte", Malformed, "wire.trailing")
def trailing(d: Draft) -> bytes:
    """a zero byte after the answer"""
    return d.answer().encoded() + b"\0"


@case("00-height-not-shortest", Malformed, "wire.not_canonical")
def long_height(d: Draft) -> bytes:
    """the height in two bytes where one does"""
    return d.answer().encoded().replace(b"\x01\x0a", b"\x01\x18\x0a", 1)


@case("00-length-not-shortest", Malformed, "wire.not_canonical")
def long_length(d: Draft) -> bytes:
    """the length of the section roots in two bytes where one does"""
    return d.answer().encoded().replace(b"\x58\xc0", b"\x59\x00\xc0", 1)


@case("00-keys-not-ascending", Malformed, "wire.not_canonical")
def unordered(d: Draft) -> bytes:
    """the first two fields exchanged"""
    first, second, *others = fields_of(d.answer())
    return assemble([second, first, *others])


@case("00-field-twice", Malformed, "wire.not_canonical")
def twice(d: Draft) -> bytes:
    """the height stands twice"""
    first, *others = fields_of(d.answer())
    return assemble([first, first, *others])


@case("00-field-twice-with-two-values", Malformed, "wire.not_canonical")
def two_values(d: Draft) -> bytes:
    """another height first, the true one after it"""
    first, *others = fields_of(d.answer())
    return assemble([(1, encode(9)), first, *others])


@case("00-unknown-critical-field", Malformed, "wire.field_unknown")
def unknown(d: Draft) -> bytes:
    """a field 9"""
    return assemble([*fields_of(d.answer()), (9, encode(True))])


@case("00-unknown-extension", Malformed, "wire.field_unknown")
def extension(d: Draft) -> bytes:
    """a field 64: an answer cannot be extended"""
    return assemble([*fields_of(d.answer()), (64, encode(True))])


@case("00-field-missing", Malformed, "wire.field_missing", without=None)
def missing(d: Draft) -> bytes:
    """no section roots"""
    return assemble([field for field in fields_of(d.answer()) if field[0] != 4])


@case("00-indefinite-length", Malformed, "wire.not_canonical", without="wire.not_canonical")
def indefinite(d: Draft) -> bytes:
    """a map without its length"""
    return b"\xbf" + d.answer().encoded()[1:] + b"\xff"


@case("00-tagged", Malformed, "wire.not_canonical", without=None)
def tagged(d: Draft) -> bytes:
    """the tag that says "this is CBOR\""""
    return b"\xd9\xd9\xf7" + d.answer().encoded()


@case("00-null-for-absent", Malformed, "wire.not_canonical", without=None)
def null(d: Draft) -> bytes:
    """null where the aliases are not"""
    fields = [*fields_of(d.answer()), (5, b"\xf6")]
    return assemble(sorted(fields))


@case("00-text-for-bytes", Malformed, "wire.field", without=None)
def text(d: Draft) -> bytes:
    """the sealed result as text"""
    fields = dict(fields_of(d.answer())) | {8: encode("sealed")}
    return assemble(list(fields.items()))


@case("00-key-as-text", Malformed, "wire.map_key", without="wire.not_canonical")
def text_key(d: Draft) -> bytes:
    """a field named in text"""
    first, *others = fields_of(d.answer())
    return assemble([first, *others]).replace(b"\x01\x0a", b"\x61\x31\x0a", 1)


@case("00-nested-too-deep", Malformed, "wire.depth", without="wire.field_unknown")
def deep(d: Draft) -> bytes:
    """lists in lists"""
    return assemble([*fields_of(d.answer()), (9, b"\x81" * 9 + b"\x00")])


@case("00-roots-cut", Malformed, "wire.field", without="map.app_hash")
def cut_roots(d: Draft) -> Answer:
    """the root of the last section is missing"""
    answer = d.answer()
    return dataclasses.replace(answer, roots=dataclasses.replace(answer.roots, roots=answer.roots.roots[:-32]))


@case("00-roots-extended", Malformed, "wire.field", without="map.app_hash")
def more_roots(d: Draft) -> Answer:
    """the root of a seventh section"""
    answer = d.answer()
    return dataclasses.replace(answer, roots=dataclasses.replace(answer.roots, roots=answer.roots.roots + bytes(32)))


@case("00-depth-over-256", Malformed, "wire.field", without="map.mask")
def too_deep_a_path(d: Draft) -> Answer:
    """a path of 257 levels"""
    answer = d.answer()
    proof = dataclasses.replace(d.path(), depth=257)
    merchant = dataclasses.replace(d.merchant(), proof=proof)
    return dataclasses.replace(answer, merchant=merchant)
