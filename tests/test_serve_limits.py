"""Limits on work, memory, bodies, headers and connections; other requests are not affected."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from attacks import encoded, half_a_body, large_webp, many_scans, transparent_png
from carbench.deploy.serve.decode_worker import estimate_work
from carbench.deploy.serve.header_limits import HeaderLimitProtocol
from carbench.deploy.serve.settings import Settings
from service_process import children, run_service, serve_in_thread
from test_serve import IMAGE, post

pytestmark = pytest.mark.slow
ORDINARY = encoded(IMAGE, "JPEG")


@pytest.fixture
def limits(deployed: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Return settings for the small model, with some limits changed."""

    def change(**changes: Any) -> Settings:
        return Settings(model=deployed / "results/export", log=tmp_path / "log.sqlite", **changes)

    return change


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def batch(url: str, contents: list[bytes]) -> httpx.Response:
    files = [("images", content) for content in contents]
    return httpx.post(f"{url}/v1/predict_batch", files=files, timeout=60)


def test_requests_with_too_much_work_are_rejected_before_decoding(
    limits: Callable[..., Settings],
) -> None:
    """The work is estimated from pixels and scans, per image and per request."""
    with serve_in_thread(limits()) as url:
        for answer in (
            batch(url, [large_webp()] * 64),
            post(url, many_scans()),
            batch(url, [encoded(IMAGE.resize((6000, 5000)), "PNG", compress_level=0)[:9000]] * 3),
        ):
            assert answer.status_code == 413, answer.text
            assert "too much work" in answer.json()["detail"]
        # One image that exceeds the limit does not affect the others.
        entries = batch(url, [many_scans(), ORDINARY]).json()["predictions"]
        assert [each.get("status", 200) for each in entries] == [413, 200]
        assert post(url, ORDINARY).status_code == 200


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(["PNG", "GIF", "BMP", "JPEG"]))
def test_estimated_work_equals_the_decoded_pixels(width: int, height: int, kind: str) -> None:
    content = encoded(IMAGE.convert("L").resize((width, height)), kind)
    work = estimate_work(content, 32)
    if kind == "JPEG":
        assert width * height / 64 <= work <= 1.1 * width * height
    else:
        assert work == width * height


def test_decoding_memory_is_limited(limits: Callable[..., Settings]) -> None:
    with serve_in_thread(limits(decode_memory_bytes=64_000_000)) as url:
        answer = post(url, transparent_png(8))
        assert answer.status_code == 413
        assert "64 MB of memory" in answer.json()["detail"]
        assert post(url, ORDINARY).status_code == 200


def test_work_is_stopped_at_the_deadline(limits: Callable[..., Settings]) -> None:
    with serve_in_thread(limits(deadline=0.4)) as url:
        answer = post(url, large_webp(39))
        assert answer.status_code == 503
        assert "not completed in time" in answer.json()["detail"]
        assert eventually(lambda: not busy_decoders())
        assert post(url, ORDINARY).status_code == 200


def test_work_is_cancelled_when_the_client_disconnects(limits: Callable[..., Settings]) -> None:
    settings = limits(max_in_progress=1)
    content = large_webp(39)
    with serve_in_thread(settings) as url:
        with socket.create_connection(("127.0.0.1", port_of(url))) as client:
            client.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/webp\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
            )
            assert eventually(busy_decoders)
        assert eventually(lambda: not busy_decoders())
        # The only slot is free again.
        assert eventually(lambda: post(url, ORDINARY).status_code == 200)
    with closing(sqlite3.connect(settings.log)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM predictions").fetchone()
    assert count == 1


def busy_decoders() -> bool:
    """Return whether the low-priority decoding process, which handles large images, is busy."""
    found = psutil.Process().children()
    times = {}
    for process in found:
        try:
            if process.nice() > 0:
                times[process] = process.cpu_times().user
        except psutil.Error:
            continue
    time.sleep(0.15)
    for process, before in times.items():
        try:
            if process.cpu_times().user > before:
                return True
        except psutil.Error:
            continue
    return False


def eventually(check: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


def test_large_images_do_not_delay_ordinary_ones(
    limits: Callable[..., Settings],
) -> None:
    content = large_webp(39)
    with serve_in_thread(limits(max_large_in_progress=2)) as url, ThreadPoolExecutor(12) as clients:
        large = [clients.submit(post, url, content) for _ in range(8)]
        ordinary = [post(url, ORDINARY).status_code for _ in range(30)]
        statuses = {each.result().status_code for each in large}
    assert ordinary == [200] * 30
    assert 503 in statuses <= {200, 503}


def test_slow_bodies_do_not_block_other_requests(limits: Callable[..., Settings]) -> None:
    """Neither do clients that wait for 100 Continue and then send nothing."""
    with serve_in_thread(limits(max_in_progress=1, max_receiving=4)) as url:
        slow = []
        for number in range(40):
            slow.append(half_a_body(port_of(url), expect=number % 2 == 0))
            if number == 3:
                time.sleep(1.2)  # the first ones can be evicted now
        assert eventually(lambda: post(url, ORDINARY).status_code == 200, 5)
        assert slow[1].recv(1000).startswith(b"HTTP/1.1 503")
        for client in slow:
            client.close()
        assert eventually(lambda: post(url, ORDINARY).status_code == 200)


def test_the_total_size_of_bodies_is_limited(limits: Callable[..., Settings]) -> None:
    with serve_in_thread(limits(max_buffered_bytes=3_000_000)) as url:
        slow = [half_a_body(port_of(url), length=5_000_000) for _ in range(4)]
        time.sleep(1.2)
        for client in slow:
            client.sendall(bytes(900_000))
        assert slow[0].recv(1000).startswith(b"HTTP/1.1 503")
        assert post(url, ORDINARY).status_code == 200
        for client in slow:
            client.close()


def test_a_body_that_arrives_too_slowly_is_rejected(limits: Callable[..., Settings]) -> None:
    with serve_in_thread(limits(body_timeout=0.5)) as url, half_a_body(port_of(url)) as client:
        assert post(url, ORDINARY).status_code == 200
        assert client.recv(1000).startswith(b"HTTP/1.1 408")


def test_expect_100_continue_is_supported(limits: Callable[..., Settings]) -> None:
    """The body is requested only if the headers are accepted."""
    with serve_in_thread(limits()) as url:
        with half_a_body(port_of(url), expect=True) as client:
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        with half_a_body(port_of(url), expect=True, length=10**9) as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 413")


def test_an_overloaded_service_responds_with_503(
    limits: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from carbench.models.onnx_classifier import OnnxModel

    predict = OnnxModel.predict

    def predict_slowly(self: OnnxModel, *arguments: Any) -> Any:
        time.sleep(0.2)
        return predict(self, *arguments)

    monkeypatch.setattr(OnnxModel, "predict", predict_slowly)
    with (
        serve_in_thread(limits(max_in_progress=6, deadline=0.7)) as url,
        ThreadPoolExecutor(16) as clients,
    ):
        answers = [each.result() for each in [clients.submit(post, url, ORDINARY)] * 1]
        asked = [clients.submit(post, url, ORDINARY) for _ in range(16)]
        answers += [each.result() for each in asked]
    refused = [each for each in answers if each.status_code != 200]
    assert {each.status_code for each in refused} == {503}
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
    assert all("again" in each.json()["detail"] for each in refused)
    assert len(answers) - len(refused) >= 2


def test_a_burst_of_requests_waits_for_its_turn(limits: Callable[..., Settings]) -> None:
    with serve_in_thread(limits(max_in_progress=1)) as url, ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: post(url, ORDINARY), range(32)))
    assert {each.status_code for each in answers} == {200}


LIMIT = Settings.model_fields["max_header_bytes"].default
HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        ([HEAD], [b"408"]),
        ([HEAD + b"\r\n", HEAD], [b"200", b"408"]),
        ([HEAD + b"\r\n" + HEAD], [b"200"]),
        ([HEAD + b"X: ".ljust(LIMIT + 1, b"x")], [b"431"]),
        ([HEAD + b"X: ".ljust(LIMIT + 1, b"x") + b"\r\n\r\n"], [b"431"]),
        ([HEAD + b"X: x\r\n" * (LIMIT // 3) + b"\r\n"], [b"431"]),
        ([b"GET /" + b"x" * (LIMIT + 1) + b" HTTP/1.1\r\n\r\n"], [b"400"]),
        ([], []),
    ],
    ids=["half", "half of the second", "pipelined", "long", "whole", "many", "path", "none"],
)
def test_header_size_and_time_are_limited(
    limits: Callable[..., Settings], sent: list[bytes], statuses: list[bytes]
) -> None:
    """Also if the headers arrive complete, in a single read."""
    with serve_in_thread(limits(header_timeout=0.7)) as url:
        with socket.create_connection(("127.0.0.1", port_of(url))) as client:
            client.settimeout(20)
            for part in sent:
                client.sendall(part)
                time.sleep(0.2)
            received = b"".join(
                iter(lambda: client.recv(65_536), b"")
            )  # until the service closes the connection
        assert re.findall(rb"HTTP/1.1 (\d+)", received) == statuses
        headers = {"x": "x" * (LIMIT - 1000)}
        assert httpx.get(f"{url}/livez", headers=headers).status_code == 200


def test_the_longest_idle_connections_are_closed(limits: Callable[..., Settings]) -> None:
    with serve_in_thread(limits(max_connections=20)) as url:
        idle = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(40)]
        assert httpx.get(f"{url}/livez").status_code == 200
        assert eventually(lambda: HeaderLimitProtocol.open_count <= 21)
        assert idle[0].recv(10) == b""
        for client in idle:
            client.close()


@pytest.fixture
def attacked(deployed: Path, tmp_path: Path) -> Iterator[Any]:
    """A service that is overloaded with large images."""
    contents = [large_webp(39), many_scans(150), transparent_png(20)]
    options = ["--log", str(tmp_path / "log.sqlite"), "--grace", "6", "--workers", "2"]
    ended: list[bool] = []

    def attack(url: str, number: int) -> None:
        while not ended:
            try:
                post(url, contents[number % len(contents)])
            except httpx.HTTPError:
                time.sleep(0.05)

    with run_service(deployed, *options) as started, ThreadPoolExecutor(8) as clients:
        for number in range(8):
            clients.submit(attack, started.url, number)
        try:
            yield started
        finally:
            ended.append(True)


def test_sigterm_stops_a_busy_service_within_the_grace_period(attacked: Any) -> None:
    process, port = attacked.process, attacked.port
    slow = [half_a_body(port) for _ in range(20)]
    time.sleep(1.5)
    assert post(attacked.url, ORDINARY).status_code == 200
    workers = children(process.pid)
    decoders = [child for pid in workers for child in children(pid)]
    assert decoders
    process.send_signal(signal.SIGTERM)
    # The grace period is 6 s; without it, the half bodies would be awaited for 20.
    process.wait(15)
    assert eventually(lambda: not any(psutil.pid_exists(pid) for pid in [*workers, *decoders]))
    for client in slow:
        client.close()
