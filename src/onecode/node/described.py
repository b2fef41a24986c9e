"""What the routes are for and what they take and give: the source of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from onecode.node.metrics import TEXT
from onecode.node.routes import CBOR, JSON, About, Parameter

COUNT = {"type": "integer", "minimum": 0}
TEXTUAL = {"type": "string"}
MAYBE_COUNT = {"type": ["integer", "null"]}
MAYBE_TEXT = {"type": ["string", "null"]}
ITEMS = {"type": "array", "items": {"$ref": "#/components/schemas/ItemResult"}}
HEIGHT = Parameter("height", "path", "a height, decimal", {"type": "string", "pattern": "^[0-9]{1,18}$"})
ACCEPT = " Accept: application/cbor gives a `TransactionView` with the proof."


def _message(name: str) -> tuple[bytes, dict[str, Any]]:
    return CBOR, {"contentMediaType": "application/cbor", "description": f"an encoded {name}"}


def _object(**properties: Any) -> tuple[bytes, dict[str, Any]]:
    return JSON, {"type": "object", "required": list(properties), "properties": properties}


def _hex(name: str, text: str, least: int, most: int) -> Parameter:
    schema = {"type": "string", "pattern": f"^([0-9a-f]{{2}}){{{least},{most}}}$"}
    return Parameter(name, "path", text, schema)


VERSIONS = _object(onecode=TEXTUAL, api=COUNT, query_protocol=COUNT)[1]
DECIDED = {"height": MAYBE_COUNT, "code": MAYBE_COUNT, "name": MAYBE_TEXT, "items": ITEMS}
STATUS = ["unknown", "decided", "proven"]

DESCRIBED: dict[tuple[str, str], About] = {
    ("POST", "/v1/query"): About(
        text="Ask what there is for a merchant or an alias. What the enclave refuses is sealed in the 200.",
        answers=(_message("Answer"),),
        body="Query",
        refusals=(401,),
    ),
    ("GET", "/v1/network"): About(
        text="The newest provable header, this node's enclave and all platforms, with proofs.",
        answers=(_message("NetworkView"),),
    ),
    ("GET", "/v1/network.json"): About(
        text="The network in words: members, services, parameters, validators. Not proven.",
        answers=(
            _object(
                chain_id=TEXTUAL,
                genesis_hash=TEXTUAL,
                engine=TEXTUAL,
                height=COUNT,
                members={"type": "array", "items": {"type": "object"}},
                services={"type": "array", "items": TEXTUAL},
                parameters={"type": "object"},
                validators={"type": "array", "items": {"type": "object"}},
                rule_version=COUNT,
                versions=VERSIONS,
            ),
        ),
    ),
    ("GET", "/v1/headers/latest"): About(
        text="The newest provable header. Where that is of height `above`: the next one, or the same after 15 s.",
        answers=(_message("HeaderView"),),
        parameters=(
            Parameter("above", "query", "a height that is known", {"type": "string", "pattern": "^[0-9]{1,18}$"}),
        ),
    ),
    ("GET", "/v1/headers/{height}"): About(
        text="The header of a height.", answers=(_message("HeaderView"),), parameters=(HEIGHT,)
    ),
    ("GET", "/v1/leaves/{section}/{key}"): About(
        text="A leaf of the map or its absence, with proof. Merchants, aliases and floors (counters that begin 05): "
        "members and observers only.",
        answers=(_message("LeafView"),),
        parameters=(
            Parameter(
                "section",
                "path",
                "section of the map",
                {"enum": ["merchants", "platforms", "aliases", "governance", "enclaves", "counters"]},
            ),
            _hex("key", "the leaf's key", 1, 1024),
        ),
        members=True,
    ),
    ("POST", "/v1/transactions"): About(
        text="Submit a transaction and wait until it is decided for good, or also proven. One that was decided and "
        "failed is a 200 with its code." + ACCEPT,
        answers=(_object(hash=TEXTUAL, **DECIDED, proven={"type": "boolean"}), _message("TransactionView")),
        parameters=(Parameter("wait", "query", "until when to wait", {"enum": ["none", "decided", "proven"]}),),
        body="Transaction",
        refusals=(401, 409),
    ),
    ("GET", "/v1/transactions/{hash}"): About(
        text="What became of a transaction in the blocks that are kept." + ACCEPT,
        answers=(
            _object(hash=TEXTUAL, status={"enum": STATUS}, **DECIDED),
            _message("TransactionView"),
        ),
        parameters=(_hex("hash", "SHA-256 of the transaction's bytes", 32, 32),),
    ),
    ("POST", "/v1/engine"): About(
        text="What the light client of a node that joins asks of the engine: JSON-RPC, answered in the engine's words.",
        answers=((JSON, {"type": "object"}),),
        json_body={
            "type": "object",
            "required": ["method"],
            "properties": {
                "jsonrpc": TEXTUAL,
                "id": {"type": "integer", "minimum": 0, "maximum": (1 << 53) - 1},
                "method": {"enum": ["commit", "consensus_params", "validators"]},
                "params": {"type": "object", "properties": {"height": {"type": "string", "pattern": "^[0-9]{1,18}$"}}},
            },
        },
    ),
    ("GET", "/v1/members/merchants/{merchant}"): About(
        text="A merchant's entry, links and envelopes, with proofs. Where a block that is decided, but not proven yet, "
        "takes something from the merchant, the header `Onecode-Decided` holds a `Narrowing` in hex.",
        answers=(_message("MemberView"),),
        parameters=(
            _hex("merchant", "merchant id", 20, 20),
            Parameter("service", "query", "pay, if it is not given", {"type": "string", "maxLength": 16}),
        ),
        members=True,
    ),
    ("GET", "/v1/members/blocks/{height}"): About(
        text="A block with its transactions and results.",
        answers=(_message("BlockView"),),
        parameters=(HEIGHT,),
        members=True,
    ),
    ("GET", "/v1/members/events"): About(
        text="Committed changes as they come, a line of JSON a block. Go on from the last line's height + 1. With "
        "`decided` a block has a line as soon as it is decided, and its own when it is proven.",
        answers=((b"application/x-ndjson", {"type": "string"}),),
        parameters=(
            Parameter(
                "from_height",
                "query",
                "the first height; the next one, if it is not given",
                {"type": "string", "pattern": "^[0-9]{1,18}$"},
            ),
            Parameter("decided", "query", "1: also what is decided, and not proven yet", {"enum": ["0", "1"]}),
        ),
        members=True,
    ),
    ("GET", "/v1/health"): About(
        text="200 while wallets get fresh answers here, else 503.",
        answers=(_object(healthy={"const": True}, height=COUNT, header_age_ms={"type": "integer"}),),
    ),
    ("GET", "/v1/status"): About(
        text="How the node stands: height, header age, engine, enclave and its leases, versions.",
        answers=(
            _object(
                chain_id=TEXTUAL,
                node_id=TEXTUAL,
                engine={"type": "object"},
                height=COUNT,
                first_block=COUNT,
                header_age_ms={"type": "integer"},
                platforms=COUNT,
                writer={"type": "object"},
                enclave={"type": ["object", "null"]},
                versions=VERSIONS,
            ),
        ),
    ),
    ("GET", "/v1/metrics"): About(
        text="Counters of all processes of the node, in the text format of Prometheus.",
        answers=((TEXT, TEXTUAL),),
    ),
    ("GET", "/v1/openapi.json"): About(text="This document.", answers=((JSON, {"type": "object"}),)),
}
