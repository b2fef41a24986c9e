"""The platform's own node is asked first, another one where it cannot be reached, and nobody else where it answers."""

from __future__ import annotations

import httpx
import pytest

from onecode.platform.nodes import NodesTransport

OWN, OTHER, THIRD = "http://own:8001", "http://other:8002", "http://third:8003"


class Network(httpx.BaseTransport):
    """Hosts that fail as told; the others answer what they were asked."""

    def __init__(self, failing: dict[str, Exception]) -> None:
        self.failing = failing
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers["host"])
        if (failure := self.failing.get(request.url.host)) is not None:
            raise failure
        return httpx.Response(503, content=request.method.encode() + request.url.raw_path + request.read())


def ask(network: Network) -> bytes:
    with httpx.Client(base_url=OWN, transport=NodesTransport((OWN, OTHER, THIRD), network)) as client:
        return client.post("/v1/transactions?wait=proven", content=b"signed").content


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("cut"),
        httpx.ConnectTimeout(""),
    ],
)
def test_the_same_request_goes_to_the_next_node_that_can_be_reached(failure: Exception) -> None:
    network = Network({"own": failure, "other": failure})
    assert ask(network) == b"POST/v1/transactions?wait=provensigned"
    assert network.asked == ["own:8001", "other:8002", "third:8003"]


def test_a_node_that_answers_is_not_passed_over_even_if_it_refuses() -> None:
    network = Network({})
    ask(network)
    assert network.asked == ["own:8001"]


def test_a_slow_node_is_not_passed_over_and_the_last_failure_is_told() -> None:
    slow = Network({"own": httpx.ReadTimeout("slow")})
    with pytest.raises(httpx.ReadTimeout):
        ask(slow)
    assert slow.asked == ["own:8001"]
    with pytest.raises(httpx.ConnectError, match="third"):
        ask(Network({host: httpx.ConnectError(host) for host in ("own", "other", "third")}))
