"""Paths in a checkpoint's trees: every place of every size leads to the root, and no other leaf or place does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onecode.proof.header import merkle_root
from onecode.proof.transaction import aunts_root, merkle_aunts, merkle_path

LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)


@given(leaves=LEAVES, data=st.data())
def test_a_path_proves_its_own_leaf_and_place_alone(leaves: list[bytes], data: st.DataObject) -> None:
    index, total, root = data.draw(st.integers(0, len(leaves) - 1)), len(leaves), merkle_root(leaves)
    path = merkle_path(leaves, index)
    assert path == merkle_aunts(leaves)[index]
    assert aunts_root(leaves[index], index, total, path) == root
    other = data.draw(st.binary(min_size=32, max_size=32).filter(lambda leaf: leaf != leaves[index]))
    assert aunts_root(other, index, total, path) != root
    elsewhere = data.draw(st.integers(0, total - 1))
    if leaves[elsewhere] != leaves[index]:
        assert aunts_root(leaves[index], elsewhere, total, path) != root
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        wrong = (*path[:place], bytes(32), *path[place + 1 :])
        assert wrong == path or aunts_root(leaves[index], index, total, wrong) != root
        assert aunts_root(leaves[index], index, total, path[:-1]) != root
    assert aunts_root(leaves[index], index, total, (*path, bytes(32))) != root
