"""What requests and ceremonies say, in words; and the terms of a ceremony from a file of its parameters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onecode.cli.code import read_file
from onecode.cli.console import console, pairs
from onecode.errors import Malformed
from onecode.host.clock import now_ms

if TYPE_CHECKING:
    from onecode.network.ceremony import Ceremony, GenesisSignature, VerifiedCeremony, VerifiedJoin, VerifiedNode
    from onecode.network.organisation import Organisation

SIMULATED_BUILD = "software"
_UNITS = ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"))


def platform_name(organisation: Organisation) -> str:
    """The platform's id as text."""
    from onecode.code.identity import platform_text, prefix_of

    return platform_text(organisation.platform, prefix_of(organisation.chain_id))


def join_plain(join: VerifiedJoin) -> dict[str, Any]:
    """What a join request establishes."""
    from onecode.code.identity import platform_text, prefix_of

    admission = join.admission
    return {
        "name": admission.name,
        "platform": platform_text(join.platform, prefix_of(join.chain_id)),
        "root": admission.root.hex(),
        **node_plain(join.node),
        "platform_url": admission.url,
        "key_service_url": admission.key_service_url,
        "keys": len(admission.keys),
    }


def node_plain(node: VerifiedNode) -> dict[str, Any]:
    """What a node's request establishes."""
    vendor = node.body.simulated_vendor
    return {
        "chain_id": node.body.chain_id,
        "validator": node.body.validator.hex(),
        "node_id": node.node_id,
        "peers": " ".join(node.body.peers),
        "node_url": node.body.url,
        "simulated_vendor": vendor.hex() if vendor is not None else None,
    }


def word_plain(word: GenesisSignature) -> dict[str, Any]:
    """What a signature says, whoever holds its key."""
    from onecode.code.identity import platform_text, prefix_of

    return {
        "chain_id": word.chain_id,
        "genesis_hash": word.genesis_hash.hex(),
        "platform": platform_text(word.platform, prefix_of(word.chain_id)),
        "signed_by": word.key.hex(),
    }


def ceremony_terms(chain_id: str, file: Path | None, time_ms: int) -> Ceremony:
    """A ceremony without requests. What the file leaves out is as in DESIGN: defaults of the code, one service."""
    from onecode.enclave.measure import code_measurement
    from onecode.network.ceremony import Ceremony
    from onecode.network.plan import VALIDATOR_POWER
    from onecode.proof.governance import DEFAULT_PARAMETERS, Measurement, Parameters
    from onecode.record.payment import SERVICE_PAY
    from onecode.schema import from_plain, to_plain

    own_build = {"kind": SIMULATED_BUILD, "measurement": code_measurement().hex()}
    defaults = to_plain(DEFAULT_PARAMETERS)
    try:
        given = json.loads(read_file(file)) if file is not None else {}
        terms = Ceremony(
            chain_id=chain_id,
            time_ms=time_ms,
            parameters=from_plain(Parameters, {name: given.pop(name, value) for name, value in defaults.items()}),
            power=given.pop("power", VALIDATOR_POWER),
            services=tuple(given.pop("services", [SERVICE_PAY])),
            measurements=tuple(
                from_plain(Measurement, {**one, "effective_ms": 0}) for one in given.pop("measurements", [own_build])
            ),
            requests=(),
        )
    except (ValueError, AttributeError, TypeError):
        raise Malformed("cli.parameters", f"{file} holds no JSON object of parameters", field="parameters") from None
    if given:
        raise Malformed("cli.parameters", f"{min(given)} is no parameter of a network", field=min(given))
    return terms


def begin_ms(text: str | None) -> int:
    if text is None:
        return now_ms()
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Malformed("cli.time", "a time is like 2027-01-15T09:00:00Z", field="time")
    return int(when.timestamp() * 1000)


def show_ceremony(verified: VerifiedCeremony) -> None:
    """The genesis, its hash in groups that can be read aloud, and who is in it."""
    from onecode.schema import to_plain

    genesis, hashed = verified.genesis, verified.genesis_hash.hex()
    organisations = [join_plain(one) for one in verified.organisations]
    plain = {
        "chain_id": genesis.chain_id,
        "genesis_hash": hashed,
        "time_ms": genesis.time_ms,
        "parameters": to_plain(genesis.parameters),
        "services": list(genesis.services),
        "measurements": [to_plain(one) for one in genesis.measurements],
        "organisations": organisations,
    }
    power = genesis.validators[0].power
    lines = pairs(
        ("chain", genesis.chain_id),
        ("begins", datetime.fromtimestamp(genesis.time_ms / 1000, UTC).isoformat(timespec="seconds")),
        *((name, _with_unit(name, value)) for name, value in to_plain(genesis.parameters).items()),
        ("services", " ".join(genesis.services)),
        *((f"build {one.kind}", one.measurement.hex()) for one in genesis.measurements),
    )
    for one in organisations:
        lines += [f"{one['name']}  {one['platform']}", f"  validator {one['validator']} power {power}"]
        lines += [f"  engine {one['peers']}", f"  node {one['node_url']}"]
    lines += ["genesis hash, to be read aloud:", *spoken(hashed)]
    console().show(plain, lines)


def _with_unit(name: str, value: int) -> str:
    """A number, and what it is for a person where it is a time."""
    if not name.endswith("_ms"):
        return str(value)
    size, unit = next((one for one in _UNITS if value and value % one[0] == 0), (1_000, "s"))
    return f"{value} ({value / size:g} {unit})"


def spoken(hashed: str) -> list[str]:
    """A hash in two lines of eight groups."""
    groups = [hashed[at : at + 4] for at in range(0, len(hashed), 4)]
    return ["  " + " ".join(groups[:8]), "  " + " ".join(groups[8:])]
