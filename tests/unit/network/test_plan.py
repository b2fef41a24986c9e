"""What a local network is planned to be, and that the plan outlives the process."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from onecode.errors import Misconfigured, Unreachable
from onecode.network.local import default_plan
from onecode.network.plan import HOST, PORTS, Places, free_ports, load_plan, require_free, save_plan


def test_ports_are_different_and_out_of_the_kernels_way() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port in PORTS for port in ports)


def test_a_taken_port_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener:
        with pytest.raises(Unreachable) as caught:
            require_free(listener.getsockname()[1], "node")
        assert (caught.value.code, caught.value.field) == ("network.port_taken", "node")


def test_a_plan_is_kept_private_and_read_again(tmp_path: Path) -> None:
    places, plan = Places(tmp_path), default_plan()
    save_plan(places, plan)
    assert load_plan(places) == plan
    assert stat.S_IMODE(places.plan.stat().st_mode) == 0o600
    assert plan.platforms[0].operator_token not in repr(plan)


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "platforms": [{}]}'])
def test_a_plan_that_is_none_is_refused(tmp_path: Path, broken: str) -> None:
    places = Places(tmp_path)
    places.plan.touch(mode=0o600)
    places.plan.write_text(broken, "utf-8")
    with pytest.raises(Misconfigured) as caught:
        load_plan(places)
    assert caught.value.code == "network.plan"


def test_an_unknown_platform_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="only alder, birch"):
        default_plan().platform("cedar")
