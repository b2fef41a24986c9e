"""Every message of the project, with whatever its kinds allow: its bytes are those of the map that it stands for."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecode
from onecode.kinds import Bool, Bytes, Choice, Kind, ListOf, Text, Uint
from onecode.schema import REGISTERED, Message, Nested, to_value
from onecode.wire import encode

ITEMS_MAX = 3
for module in pkgutil.walk_packages(onecode.__path__, "onecode."):  # each registers its messages
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
OWN = {name: cls for name, cls in REGISTERED.items() if cls.__module__.startswith("onecode.")}


def _of(kind: Kind) -> st.SearchStrategy[Any]:
    if isinstance(kind, Uint):
        return st.integers(0, kind.max)
    if isinstance(kind, Bool):
        return st.booleans()
    if isinstance(kind, Bytes):
        return st.binary(min_size=kind.min, max_size=min(max(kind.max, kind.min), kind.min + 300))
    if isinstance(kind, Text):
        return st.text("aé漢", min_size=kind.min, max_size=min(kind.max, kind.min + 30))
    if isinstance(kind, Choice):
        return st.sampled_from(list(kind.enum))
    if isinstance(kind, Nested):
        return _message(kind.message)
    assert isinstance(kind, ListOf), kind
    items = st.lists(_of(kind.item), min_size=kind.min, max_size=max(kind.min, min(kind.max, ITEMS_MAX)))
    return items.map(tuple)


def _message(cls: type[Message]) -> st.SearchStrategy[Message]:
    fields = {
        spec.name: (st.none() | _of(spec.kind)) if spec.optional else _of(spec.kind)
        for spec in cls.FIELDS
        if not (spec.optional and isinstance(spec.kind, Nested) and spec.kind.message is cls)
    }
    return st.builds(cls, **fields)


@pytest.mark.parametrize("name", sorted(OWN))
@settings(max_examples=8)  # of each of some 150 messages
@given(data=st.data())
def test_a_message_is_written_as_the_map_it_stands_for(name: str, data: st.DataObject) -> None:
    message = data.draw(_message(OWN[name]))
    assert message.encoded() == encode(to_value(message))


def test_there_are_messages() -> None:
    assert len(OWN) > 100
