"""A wallet's directory: device key, credential, headers, payments, evidence of lies."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from onecode.errors import Malformed, Misconfigured
from onecode.proof.governance import ValidatorsLeaf
from onecode.proof.leaves import TIME_MS
from onecode.query.messages import HeaderView
from onecode.schema import Message, Nested, Text, Uint, item, parse
from onecode.wallet.headers import SavedHeader
from onecode.wire import SigningKey

_DEVICE, _CREDENTIAL, _HEADER = "device.key", "credential.cbor", "header.cbor"
_COMPARED, _STOPPED = "compared.cbor", "stopped.cbor"
_PAYMENTS, _EVIDENCE = "payments.jsonl", "evidence"
EVIDENCE_FILES_MAX = 100


class ComparedHeader(Message):
    """The newest header that a node of another organisation confirmed, when, and who runs the validators."""

    view: HeaderView = item(1, Nested(HeaderView))
    compared_ms: int = item(2, TIME_MS)
    named: ValidatorsLeaf | None = item(3, Nested(ValidatorsLeaf), default=None)


class Stop(Message):
    """Why this wallet believes nothing any more until its trust is renewed: a fork, and the file that shows it."""

    evidence: str = item(1, Text(200))
    height: int = item(2, Uint((1 << 63) - 1))
    noticed_ms: int = item(3, TIME_MS)


@dataclass(frozen=True, slots=True)
class KeptPayment:
    """A payment as it lies on disk. request: encoded PaymentRequest; receipt: encoded SignedReceipt, None until had."""

    idempotency_key: str
    request: bytes
    receipt: bytes | None


class WalletStore:
    """Files of one wallet, mode 0600 in a directory of mode 0700. Every replacement is atomic and durable."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _load(self, name: str) -> bytes | None:
        path = self.directory / name
        return path.read_bytes() if path.exists() else None

    def _save(self, name: str, data: bytes) -> None:
        path = self.directory / name
        beside = path.with_name(path.name + ".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def load_device(self, fresh_seed: bytes) -> SigningKey:
        """The device key; made from `fresh_seed` (32 random bytes) and saved at the first call."""
        path = self.directory / _DEVICE
        if not path.exists():
            self._save(_DEVICE, fresh_seed.hex().encode("ascii"))
        if path.stat().st_mode & 0o077:
            raise Misconfigured("wallet.key_mode", f"{path} can be read by others; set its mode to 0600")
        try:
            seed = bytes.fromhex(path.read_text("ascii"))
        except ValueError:
            seed = b""
        if len(seed) != 32:
            raise Misconfigured("wallet.key_file", f"{path} does not hold 32 bytes in hex")
        return SigningKey.from_seed(seed)

    def load_credential(self) -> bytes | None:
        """The encoded SignedCredential, if the wallet was enrolled."""
        return self._load(_CREDENTIAL)

    def save_credential(self, credential: bytes) -> None:
        self._save(_CREDENTIAL, credential)

    def load_header(self) -> SavedHeader | None:
        """The newest header that was verified, if any."""
        raw = self._load(_HEADER)
        return parse(SavedHeader, raw, path="header.cbor") if raw is not None else None

    def save_header(self, header: SavedHeader) -> None:
        self._save(_HEADER, header.encoded())

    def load_compared(self) -> ComparedHeader | None:
        """The newest header that another organisation confirmed, if any."""
        raw = self._load(_COMPARED)
        return parse(ComparedHeader, raw, path=_COMPARED) if raw is not None else None

    def save_compared(self, compared: ComparedHeader) -> None:
        self._save(_COMPARED, compared.encoded())

    def load_stop(self) -> Stop | None:
        """The fork that this wallet saw, until its trust is renewed."""
        raw = self._load(_STOPPED)
        return parse(Stop, raw, path=_STOPPED) if raw is not None else None

    def save_stop(self, stop: Stop) -> None:
        self._save(_STOPPED, stop.encoded())

    def begin_again(self, header: SavedHeader) -> None:
        """Trust was renewed: from this header on."""
        self.save_header(header)
        for name in (_COMPARED, _STOPPED):
            (self.directory / name).unlink(missing_ok=True)

    def save_payment(self, payment: KeptPayment) -> None:
        """Append one line, durable before this returns: the intent before it is sent, the receipt after it came."""
        row = {"idempotency_key": payment.idempotency_key, "request": payment.request.hex()}
        if payment.receipt is not None:
            row["receipt"] = payment.receipt.hex()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(self.directory / _PAYMENTS, flags, 0o600), "ab") as file:
            file.write(b"\n" + json.dumps(row).encode("ascii"))  # first: a line cut short by a crash ends here
            file.flush()
            os.fsync(file.fileno())

    def load_payments(self) -> list[KeptPayment]:
        """Each payment once, in the order of the first sending; one without a receipt may or may not have been paid."""
        found: dict[str, KeptPayment] = {}
        for line in (self._load(_PAYMENTS) or b"").splitlines():
            try:
                row = json.loads(line)
                receipt = bytes.fromhex(row["receipt"]) if "receipt" in row else None
                kept = KeptPayment(row["idempotency_key"], bytes.fromhex(row["request"]), receipt)
            except (ValueError, KeyError, TypeError):  # a line cut short by a crash: what it told was never acted on
                continue
            if kept.receipt is not None or kept.idempotency_key not in found:
                found[kept.idempotency_key] = kept
        return list(found.values())

    def keep_evidence(self, name: str, data: bytes, *, whatever: bool = False) -> None:
        """Keep bytes that prove a lie: a hundred files, and `whatever` there is those that halt the wallet."""
        directory = self.directory / _EVIDENCE
        directory.mkdir(exist_ok=True, mode=0o700)
        if whatever or len(list(directory.iterdir())) < EVIDENCE_FILES_MAX:
            self._save(f"{_EVIDENCE}/{name}", data)

    def list_evidence(self) -> list[Path]:
        """The files of evidence, oldest name first."""
        return sorted(path for path in (self.directory / _EVIDENCE).glob("*.cbor") if path.is_file())

    def load_evidence(self, name: str) -> bytes:
        """One file of evidence by its name."""
        for path in self.list_evidence():
            if path.name == name:
                return path.read_bytes()
        raise Malformed("wallet.evidence", "there is no such file of evidence: list them first", field="name")
