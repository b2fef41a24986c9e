"""Makes the Python processes of one node lie: on the path of its processes alone, read from the environment at start.

ONECODE_TEST_LIE: what its application does beside an engine that is as it should be.
  garbage, conflicting, oversize: it proposes such transactions whenever it is its turn;
  deny: it calls every proposal bad, so that its validator votes for none.
ONECODE_TEST_CLOCK: a file that says by how many ms its clock is off, in every Python process of the node; the test
changes it while they run. `shifted_engine.py` has an engine that reads it too.
"""

import os
import sys
import time

LIE = os.environ.get("ONECODE_TEST_LIE", "")
CLOCK = os.environ.get("ONECODE_TEST_CLOCK", "")
LOOK_S = 0.1

real_ns, real_s = time.time_ns, time.time
known = {"read_s": 0.0, "shift_ms": 0}


def _shift_ms() -> int:
    if time.monotonic() - known["read_s"] > LOOK_S:
        with open(CLOCK) as file:
            known.update(read_s=time.monotonic(), shift_ms=int(file.read() or known["shift_ms"]))
    return known["shift_ms"]


if CLOCK:
    time.time_ns = lambda: real_ns() + _shift_ms() * 1_000_000
    time.time = lambda: real_s() + _shift_ms() / 1_000


def _lie() -> None:
    from onecode.node import abci_messages as messages
    from onecode.node.abci_application import AbciApplication
    from onecode.node.abci_messages import ProposalStatus

    honest = AbciApplication._prepare_proposal

    def prepare(self, message):
        request = messages.parse_prepare_proposal(message)
        if LIE == "garbage":
            chosen = [b"garbage %d %d" % (request.height, number) for number in range(20)]
        elif LIE == "conflicting":  # the same ones again and again, those of blocks before, in the wrong order
            seen = self.__dict__.setdefault("_test_seen", [])
            seen.extend(request.transactions)
            chosen = [*reversed(request.transactions), *request.transactions, *seen[-50:]]
            if not chosen:
                return honest(self, message)
        else:
            chosen = [os.urandom(400_000) for _ in range(20)]  # 8 MB where 4 MiB are allowed
        return messages.prepare_proposal_response(chosen)

    if LIE == "deny":
        AbciApplication._process_proposal = lambda self, message: messages.process_proposal_response(
            ProposalStatus.REJECT
        )
    else:
        AbciApplication._prepare_proposal = prepare


if LIE and "writer" in sys.orig_argv:
    _lie()
