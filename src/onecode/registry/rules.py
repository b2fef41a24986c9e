"""Which rule executes which kind of transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onecode.registry import (
    rules_aliases,
    rules_enclaves,
    rules_freezes,
    rules_governance,
    rules_merchants,
    rules_platforms,
    rules_records,
)
from onecode.registry.context import Context
from onecode.registry.results import Result
from onecode.registry.transactions import Kind

RULES: dict[Kind, Callable[[Context, Any], Result]] = {
    Kind.PROPOSAL_SUBMIT: rules_governance.submit,
    Kind.PROPOSAL_APPROVE: rules_governance.approve,
    Kind.MERCHANT_FREEZE: rules_freezes.freeze,
    Kind.PLATFORM_KEYS: rules_platforms.set_keys,
    Kind.PLATFORM_ROOT: rules_platforms.set_root,
    Kind.PLATFORM_SUSPEND: rules_platforms.suspend,
    Kind.PLATFORM_ENDPOINTS: rules_platforms.set_endpoints,
    Kind.PLATFORM_NODES: rules_platforms.set_nodes,
    Kind.PLATFORM_EPOCH: rules_platforms.raise_epoch,
    Kind.RECORD_PUBLISH: rules_records.publish,
    Kind.RECORD_WITHDRAW: rules_records.withdraw,
    Kind.ALIAS_BIND: rules_aliases.bind,
    Kind.ALIAS_RELEASE: rules_aliases.release,
    Kind.MERCHANT_UNLINK: rules_merchants.unlink,
    Kind.MERCHANT_ORDERKEYS: rules_merchants.set_order_keys,
    Kind.MERCHANT_ROTATE: rules_merchants.rotate,
    Kind.MERCHANT_RECOVER: rules_merchants.recover,
    Kind.MERCHANT_RECOVER_CANCEL: rules_merchants.cancel_recover,
    Kind.MERCHANT_RECOVERYKEY: rules_merchants.set_recovery_key,
    Kind.ENCLAVE_ATTEST: rules_enclaves.attest,
    Kind.ENCLAVE_REVOKE: rules_enclaves.revoke,
}
