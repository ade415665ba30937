"""The handle's own client, against real endpoints and a server that misbehaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbops.core.errors import EndpointError, InvalidInput, NotFound, SignatureMismatch
from nbops.serving.client import Client
from nbops.serving.endpoints import serve
from nbops.serving.live import LiveEndpoint


def test_one_output_is_an_array_and_several_are_a_dict(
    scaler: LiveEndpoint, register_two_way: Callable[[], Any]
) -> None:
    np.testing.assert_array_equal(scaler.infer([[1, 2, 3, 4]]), [[2, 4, 6, 8]])
    assert scaler.infer(np.ones((3, 4))).dtype == np.float32
    live = serve(register_two_way())
    rows = np.ones((2, 2), np.float32)
    answer = live.infer({"a": rows, "b": rows, "i": np.array([4, 0])})
    np.testing.assert_array_equal(answer["total"], rows + 1)
    assert answer["looked_up"].tolist() == [14, 10]
    with pytest.raises(InvalidInput, match="does not take these inputs"):
        live.infer({"a": rows, "b": rows, "i": np.array([4, 99])})
    live.stop()


def test_rows_that_do_not_fit_are_refused_before_they_are_sent(scaler: LiveEndpoint) -> None:
    with pytest.raises(SignatureMismatch, match=r"expected float32 \[batch, 4\], got float64 \[batch, 3\]|expected"):
        scaler.infer(np.ones((2, 3)))
    assert scaler.stats()["scaler/1"]["requests"] == 0


def test_stats_count(scaler: LiveEndpoint) -> None:
    for _ in range(3):
        scaler.infer(np.ones((2, 4), np.float32))
    stats = scaler.stats()["scaler/1"]
    assert (stats["requests"], stats["errors"], stats["rows"]) == (3, 0, 6)
    assert stats["p99_ms"] >= stats["p50_ms"] > 0


def test_a_wrong_token_and_a_wrong_model_are_told(scaler: LiveEndpoint) -> None:
    stranger = Client(scaler.url, token="wrong", model="scaler")
    with pytest.raises(EndpointError, match="a wrong token"):
        stranger.get("/v2")
    stranger.close()
    other = Client(scaler.url, token=scaler.token, model="scalr")
    with pytest.raises(NotFound, match="no model 'scalr'"):
        other.infer([[1, 2, 3, 4]])
    other.close()


def serve_raw(*answers: bytes) -> tuple[str, threading.Thread, list[bytes]]:
    """Answer each of some connections with fixed bytes, then close it; empty bytes close at once."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    seen: list[bytes] = []

    def go() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(65536))
                    if answer:
                        connection.sendall(answer)

    thread = threading.Thread(target=go)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", thread, seen


def http_answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_a_connection_that_the_server_closed_is_opened_again() -> None:
    url, thread, seen = serve_raw(http_answer("200 OK", b"1"), http_answer("200 OK", b"2"))
    client = Client(url, token="", model="m")
    assert [client.get("/"), client.get("/")] == [1, 2]
    thread.join()
    client.close()
    assert len(seen) == 2


def test_no_answer_is_told() -> None:
    url, thread, _ = serve_raw(b"")
    client = Client(url, token="", model="m")
    with pytest.raises(EndpointError, match=f"no answer from {url}"):
        client.get("/")
    thread.join()
    with pytest.raises(EndpointError, match="no answer"):  # nobody listens any more
        client.get("/")
    client.close()


def test_an_answer_that_is_no_json_error_is_told() -> None:
    url, thread, _ = serve_raw(http_answer("502 Bad Gateway", b"<html>"))
    client = Client(url, token="", model="m")
    with pytest.raises(EndpointError, match="answered 502"):
        client.get("/")
    thread.join()
    client.close()


def test_a_slow_answer_is_told() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", token="", model="m", timeout_s=0.1)
        with pytest.raises(EndpointError, match=r"no answer within 0\.1 s"):
            client.get("/")
        client.close()
