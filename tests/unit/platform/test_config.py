"""The configuration file, the key files and the epoch key file: what is refused, and that all is documented."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from onecode.attest.epochs import EPOCHS_MAX, StoredEpoch, encode_epochs, parse_epochs
from onecode.errors import Declined, Misconfigured
from onecode.host.files import save_private
from onecode.host.keyring import load_key, save_key
from onecode.platform.config import PlatformConfig, load_config, parse_config
from onecode.platform.epochs import create_epochs, current_epoch, erase_epochs, load_epochs, rotate_epochs
from onecode.platform.keyring import load_keyring
from unit.platform.world import Keys, new_key

pytestmark = pytest.mark.clock

OPTIONS: dict[str, Any] = {
    "chain_id": "solo-x",
    "name": "Alpha",
    "root_public_key": "ab" * 32,
    "data_dir": "data",
    "node_url": "http://127.0.0.1:1",
    "port": 0,
    "operator_token": "t" * 24,
    "trust_file": "trust.cbor",
    "transaction_key_file": "a",
    "record_key_file": "b",
    "device_key_file": "c",
    "receipt_key_file": "d",
    "anchor_key_file": "e",
    "anchor_certificate_file": "f",
    "epoch_key_file": "g",
}


def parse(**changes: Any) -> PlatformConfig:
    return parse_config(json.dumps(OPTIONS | changes).encode(), Path("/etc/onecode"))


def test_defaults_and_relative_paths() -> None:
    config = parse()
    assert config.data_dir == Path("/etc/onecode/data")
    assert (config.header_age_ms_max, config.host, config.sandbox) == (30_000, "127.0.0.1", False)
    assert OPTIONS["operator_token"] not in repr(config)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"headr_age_ms_max": 1}, "config.unknown"),
        ({"header_age_ms_max": 999}, "config.option"),
        ({"header_age_ms_max": "30000"}, "config.option"),
        ({"port": True}, "config.option"),
        ({"sandbox": 1}, "config.option"),
        ({"root_public_key": "ab"}, "config.option"),
        ({"node_url": "127.0.0.1:1"}, "config.option"),
        ({"other_node_urls": ["http://127.0.0.1:1", "127.0.0.1:2"]}, "config.option"),
        ({"other_node_urls": "http://127.0.0.1:1"}, "config.option"),
        ({"operator_token": "short"}, "config.option"),
        ({"chain_id": "x" * 51}, "config.option"),
        ({"sandbox_opening_minor": {"EURO": 1}}, "config.option"),
        ({"sandbox_opening_minor": {"EUR": 0}}, "config.option"),
        ({"credential_ms": 24 * 3_600_000 + 1}, "config.option"),
    ],
)
def test_bad_options_are_refused_by_name(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(**changes)
    assert (caught.value.code, caught.value.field) == (code, next(iter(changes)))


@pytest.mark.parametrize("name", OPTIONS)
def test_options_without_default_are_needed(name: str) -> None:
    rest = {key: value for key, value in OPTIONS.items() if key != name}
    with pytest.raises(Misconfigured, match=r"config\.missing"):
        parse_config(json.dumps(rest).encode(), Path())


def test_every_option_is_documented_with_its_default(root: Path) -> None:
    page = (root / "docs" / "spec" / "platform.md").read_text("utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page, re.MULTILINE))
    for spec in dataclasses.fields(PlatformConfig):
        default = "required"
        if spec.default is not dataclasses.MISSING:
            default = f"`{json.dumps(spec.default)}`"
        elif spec.default_factory is not dataclasses.MISSING:
            default = f"`{json.dumps(spec.default_factory())}`"
        assert documented.get(spec.name) == default, spec.name


def test_files_with_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "platform.json"
    save_private(path, json.dumps(OPTIONS).encode())
    assert load_config(path).name == "Alpha"
    with pytest.raises(Misconfigured, match=r"file\.exists"):
        save_private(path, b"")
    os.chmod(path, 0o640)
    with pytest.raises(Misconfigured, match=r"file\.mode"):
        load_config(path)
    with pytest.raises(Misconfigured, match=r"file\.unreadable"):
        load_config(tmp_path / "absent")


def test_keys_are_loaded_once_for_each_role(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcde"]
    keys = [new_key() for _ in paths]
    for path, key in zip(paths, keys, strict=True):
        save_key(path, key)
    ring = load_keyring(*paths)
    assert (ring.transaction, ring.anchor) == (keys[0], keys[4])
    assert keys[0].seed.hex() not in repr(ring)
    with pytest.raises(Misconfigured, match=r"keyring\.reused"):
        load_keyring(paths[0], paths[0], *paths[2:])
    save_private(paths[0], b"00" * 31, replace=True)
    with pytest.raises(Misconfigured, match=r"keyring\.seed"):
        load_key(paths[0])


def test_epochs_rotate_and_are_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "epochs.json"
    first = create_epochs(path, lambda size: b"1" * size)
    assert rotate_epochs(path, lambda size: b"2" * size, 1_000) == 2
    epochs = load_epochs(path)
    assert epochs == {**first, 2: StoredEpoch(b"2" * 32, 1_000)}
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_epochs(path.read_bytes()) == {1: b"1" * 32, 2: b"2" * 32}  # what the key service releases
    assert parse_epochs(encode_epochs({3: b"3" * 32})) == {3: b"3" * 32}
    assert (b"1" * 32).hex() not in repr(epochs) and "1111" not in repr(epochs)
    with pytest.raises(Misconfigured):
        create_epochs(path, os.urandom)


def test_an_epoch_is_used_once_enclaves_had_the_time_to_get_its_key(tmp_path: Path) -> None:
    path = tmp_path / "epochs.json"
    create_epochs(path, os.urandom)
    rotate_epochs(path, os.urandom, 1_000)
    rotate_epochs(path, os.urandom, 2_000)
    epochs = load_epochs(path)
    assert [current_epoch(epochs, now_ms, 500) for now_ms in (0, 1_499, 1_500, 2_499, 2_500)] == [1, 1, 2, 2, 3]
    erase_epochs(path, 2)
    assert list(load_epochs(path)) == [3]
    assert current_epoch(load_epochs(path), 0, 500) == 3  # the only one there is
    erase_epochs(path, 3)  # never the last one
    assert list(load_epochs(path)) == [3]


def test_an_epoch_file_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "epochs.json"
    save_private(path, encode_epochs({number: bytes(32) for number in range(1, EPOCHS_MAX + 1)}))
    with pytest.raises(Declined, match=r"epoch\.full"):
        rotate_epochs(path, os.urandom, 1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"version": 1, "epochs": [3]}',
        b'{"version": 1, "epochs": [{"epoch": 1, "key": "' + b"00" * 32 + b'", "made_ms": -1}]}',
        b'{"version": 1, "epochs": [{"epoch": 1, "key": "' + b"00" * 32 + b'", "made_ms": "1"}]}',
        b'{"version": 1, "epochs": [{"epoch": 1, "key": "' + b"00" * 32 + b'", "more": 1}]}',
        b"[]",
        b"{}",
        b'{"version": 2, "epochs": [{"epoch": 1, "key": "' + b"00" * 32 + b'"}]}',
        b'{"version": 1, "epochs": []}',
        b'{"version": 1, "epochs": [{"epoch": 0, "key": "' + b"00" * 32 + b'"}]}',
        b'{"version": 1, "epochs": [{"epoch": true, "key": "' + b"00" * 32 + b'"}]}',
        b'{"version": 1, "epochs": [{"epoch": 1, "key": "' + b"00" * 31 + b'"}]}',
        b'{"version": 1, "epochs": [{"epoch": 1, "key": "secret"}]}',
    ],
)
def test_a_broken_epoch_file_is_refused_without_repeating_it(text: bytes) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_epochs(text)
    assert "secret" not in str(caught.value)


def test_a_platform_is_made_with_a_key_for_each_role(keys: list[Keys]) -> None:
    admission = keys[0].admission
    assert sorted(key.role for key in admission.keys) == list(range(1, 8))
    assert len({key.key for key in admission.keys} | {admission.root}) == 8
    with pytest.raises(Misconfigured, match=r"file\.exists"):
        Keys(keys[0].directory, "again")
