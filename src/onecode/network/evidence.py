"""The trace of a payment's evidence: the headers from its own up to a checkpoint that is later."""

from __future__ import annotations

import dataclasses

from onecode.errors import Declined
from onecode.network.client import NodeClient
from onecode.proof.header import Header
from onecode.query.evidence import TRACE_HEADERS_MAX, EvidenceFile
from onecode.query.messages import HeaderView, MemberView
from onecode.schema import parse

VIEW_BYTES_MAX = 4 << 20


def add_trace(node: NodeClient, file: EvidenceFile, checkpoint_height: int) -> EvidenceFile:
    """The file with the headers up to the checkpoint, by the node's word: who checks the file believes none of them.

    A checkpoint that is not later needs none.
    """
    height = parse(MemberView, file.view, size_max=VIEW_BYTES_MAX, path="view").header.header.height
    if checkpoint_height - height > TRACE_HEADERS_MAX:
        raise Declined("evidence.too_far", f"a checkpoint is at most {TRACE_HEADERS_MAX} headers after the payment")
    trace = tuple(_header(node, at) for at in range(height + 1, checkpoint_height + 1))
    return dataclasses.replace(file, trace=trace)


def _header(node: NodeClient, height: int) -> Header:
    return parse(HeaderView, node.header(height), path="header").header.header
