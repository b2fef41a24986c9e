"""Result codes of transactions and of the items of a batch. The numbers are consensus: a number never changes meaning.

0 is success. A code from 1 to 19 says that the transaction was not admitted: it changed nothing, its nonce is not used.
Every other code says that it was admitted, used its nonce, and changed nothing else (docs/spec/registry.md).
"""

from __future__ import annotations

from enum import IntEnum

ADMISSION_MAX = 19


class Result(IntEnum):
    """A code and, in `meaning`, what it says to a person; the words are not consensus."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Result:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    @property
    def admitted(self) -> bool:
        """Whether the transaction passed admission, so that its nonce is used."""
        return self == 0 or self > ADMISSION_MAX

    OK = 0, "done"

    # Admission, without looking at state
    MALFORMED = 1, "the transaction does not parse"
    SIGNERS = 2, "the signatures are not those that this kind of transaction needs"
    SIGNATURE = 3, "a signature does not fit the transaction and its key"
    # Admission, against the state
    SIGNER_UNKNOWN = 10, "the registry knows no such platform or merchant as the signer"
    KEY_REFUSED = 11, "the signing key is not an active key of the signer for this kind of transaction"
    QUOTA = 12, "the signer's quota of this block is used up: send it again"
    EXPIRED = 13, "valid_until_ms has passed"
    VALID_UNTIL_TOO_FAR = 14, "valid_until_ms lies too far ahead of the block's time"
    NONCE = 15, "the nonce was used before, or is not the next one"

    # Rules that several transactions share
    PLATFORM_INACTIVE = 20, "the platform is suspended or not active yet"
    RECOVERY_PENDING = 21, "a recovery is pending: what the controller signs is refused until it ends"
    MERCHANT_UNKNOWN = 22, "the registry has no such merchant"
    MERCHANT_FROZEN = 23, "the merchant is frozen: no new links"
    ITEMS_FAILED = 24, "no item of the batch succeeded"
    KEYS_NOT_DISTINCT = 25, "controller and recovery key must differ, and a new key from the old one"
    POSSESSION = 26, "the proof of possession of the new key is not good"

    # Records
    SERVICE_UNKNOWN = 40, "no such service is in force"
    EPOCH_TOO_OLD = 41, "the epoch is below the platform's epoch_min"
    AUDIENCE_UNKNOWN = 42, "the audience names a platform that was never admitted"
    BIRTH_MISMATCH = 43, "the birth keys do not give this merchant id"
    VERSION = 44, "the version is not exactly the next one, or not the link's"
    LINKS_FULL = 45, "the merchant has 32 links for this service"
    SERVICES_FULL = 46, "the merchant has 16 services"
    LINK_UNKNOWN = 47, "there is no such link"

    # Consents
    CONSENT_MISSING = 60, "a new link needs the merchant's consent"
    CONSENT_MALFORMED = 61, "the consent does not parse"
    CONSENT_MISMATCH = 62, "the consent is for another purpose, merchant, platform, service or alias"
    CONSENT_EXPIRED = 63, "the consent has expired"
    CONSENT_TOO_LONG = 64, "the consent expires more than 30 days ahead"
    CONSENT_SERIAL = 65, "the consent's serial is not the merchant's current one"
    CONSENT_SIGNER = 66, "the consent names a recovery key that is not the merchant's"
    CONSENT_SIGNATURE = 67, "the consent is not signed by the merchant's key"

    # Aliases
    SCHEME_UNASSIGNED = 80, "no platform speaks for this scheme yet"
    SCHEME_PLATFORM = 81, "another platform speaks for this scheme"
    ALIAS_SHAPE = 82, "the alias has not the sub-objects that the scheme's assignment names"
    ALIAS_BOUND = 83, "the alias is bound"
    ALIASES_FULL = 84, "the merchant has 16 aliases"
    ALIAS_UNKNOWN = 85, "the alias is not bound to this merchant"

    # Merchants
    NOTHING_PENDING = 90, "no recovery is pending"
    FREEZE_VOTED = 91, "the platform's vote to freeze this merchant stands"
    FREEZE_PAUSE = 92, "the merchant was frozen lately: another freeze needs governance"
    FREEZES_A_DAY = 93, "the platform has used its freezes of this day"

    # Platforms
    KEY_STATE = 100, "a key cannot come into this state"
    KEY_EXPIRY = 101, "an anchor key needs not_after_ms at most 90 days ahead, other keys have none"
    KEY_REUSED = 102, "a public key stands once in a platform: not in two roles, nor as its root"
    KEYS_FULL = 103, "the platform has 64 keys that are not revoked"
    EPOCH_NOT_RAISED = 104, "epoch_min only rises"
    NODES_TWICE = 105, "a node id stands twice"
    ALREADY_SUSPENDED = 106, "the platform is suspended already"

    # Governance
    PROPOSAL_MALFORMED = 120, "the proposal does not parse, or has not exactly the fields of its kind"
    PROPOSAL_EXPIRY = 121, "the proposal's expiry has passed or lies too far ahead"
    PROPOSAL_EXISTS = 122, "this proposal was submitted before"
    PROPOSALS_A_DAY = 123, "the platform has used its proposals of this day"
    PROPOSAL_UNKNOWN = 124, "there is no such proposal"
    PROPOSAL_EXPIRED = 125, "the proposal has expired"
    PROPOSAL_EXECUTED = 126, "the proposal was executed"
    APPROVED_ALREADY = 127, "the platform has approved this proposal"
    PLATFORM_EXISTS = 128, "a platform with this id was admitted before; an id is never used again"
    PLATFORM_UNKNOWN = 129, "no such platform was admitted"
    PLATFORM_STATUS = 130, "the platform is not in the state that the proposal ends"
    PLATFORMS_FULL = 131, "the registry has 1,000 platforms"
    ADMISSION_KEYS = 132, "a platform is admitted with an active key for each role"
    VALIDATORS = 133, "validators are ascending by key, have power, and belong to platforms that are not suspended"
    MEASUREMENTS = 134, "the enclave policy names a build twice"
    SERVICE_STATE = 135, "the service is in force or approved already, or there is none to remove"
    SERVICES_LIST_FULL = 136, "the registry has all the services that it can hold"
    SCHEME_SHAPE = 137, "a scheme has a foreign GUID and sub-objects 01 to 99, each once; assigned ones do not change"
    OBSERVER_UNKNOWN = 138, "there is no such observer to remove"
    RULES = 139, "rules are activated at least 1,000 blocks ahead, with a higher version than the current one"
    PROPOSAL_OUTDATED = 140, "what the proposal replaces has changed since it was made: propose it again"

    # Enclaves
    MEASUREMENT_REFUSED = 150, "the enclave policy does not allow this build"
    ATTESTATION_EXPIRY = 151, "an attestation expires at most 24 h ahead, and not in the past"
    ATTESTATION_UNKNOWN = 154, "the platform has not attested this enclave"
