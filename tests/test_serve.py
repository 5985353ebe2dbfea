"""The service: what it says is what was evaluated; bad input, load and kills do it no harm."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from carbench.deployed.folder import read_model
from carbench.serve.app import create_app
from carbench.serve.headers import HeaderLimits
from carbench.serve.log import read_window
from carbench.serve.settings import Settings
from conftest import TURNED_ODDLY, Project
from running import Running, children, running

pytestmark = pytest.mark.slow
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def post(url: str, content: bytes, field: str = "image", name: str = "a.jpg") -> httpx.Response:
    return httpx.post(f"{url}/predict", files={field: (name, content)}, timeout=60)


def test_it_says_what_was_evaluated(service: Running) -> None:
    """Image by image, with the probabilities that val's temperature makes of evaluate's."""
    about = httpx.get(f"{service.url}/model").json()
    results = service.study / "results"
    run = f"{about['backbone']}/{about['seed']}"
    with (results / "evaluate" / run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert about["parity"]["same_top1"] == len(rows)
    for row in rows:
        answer = post(service.url, (results / "data/images" / row["image"]).read_bytes()).json()
        shares = np.array([float(row[f"p:{name}"]) for name in about["classes"]])
        tempered = shares ** (1 / about["temperature"])
        tempered /= tempered.sum()
        assert answer["top"][0]["class"] == row["predicted"]
        assert answer["top"][0]["probability"] == pytest.approx(tempered.max(), abs=1e-3)
        assert answer["model"] == about["version"]


def test_a_batch_says_of_each_what_it_says_alone(service: Running) -> None:
    contents = [path.read_bytes() for path in service.pictures[:3]]
    alone = [post(service.url, content).json()["top"][0]["class"] for content in contents]
    files = [("images", content) for content in [*contents[:2], b"no picture", contents[2]]]
    entries = httpx.post(f"{service.url}/predict_batch", files=files).json()["predictions"]
    assert [each["top"][0]["class"] for each in entries if "top" in each] == alone
    assert entries[2]["status"] == 415
    too_many = httpx.post(f"{service.url}/predict_batch", files=files[:1] * 65)
    assert too_many.status_code == 413


ANIMATED = encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)])
TURNED = Image.Exif()
TURNED[0x0112] = 6
BAD: dict[str, tuple[bytes, int, str]] = {
    "no picture": (b"hello", 415, "not a picture"),
    "a program that draws": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        415,
        "not a pict",
    ),
    "empty": (b"", 422, "empty"),
    "truncated": (encoded(PICTURE, "JPEG")[:300], 422, "decoded"),
    "corrupt": (encoded(PICTURE, "PNG")[:90] + bytes(400), 422, "decoded"),
    "cut within a header": (ANIMATED[: ANIMATED.rindex(b"!\xf9") + 10], 422, "decoded"),
    "a bomb": (encoded(Image.new("1", (20_000, 20_000)), "PNG"), 413, "pixels"),
    "huge": (encoded(Image.new("L", (8_000, 8_000)), "PNG"), 413, "pixels"),
    "large": (bytes(21_000_000), 413, "20 MB"),
}
ODD: dict[str, tuple[bytes, str | None]] = {
    "CMYK": (encoded(PICTURE.convert("CMYK"), "JPEG"), None),
    "palette": (encoded(PICTURE.convert("P"), "PNG"), None),
    "16 bits": (encoded(Image.fromarray(np.full((40, 60), 40_000, np.uint16)), "PNG"), None),
    "turned": (encoded(PICTURE, "JPEG", exif=TURNED), None),
    "turned, with odd metadata": (encoded(PICTURE, "JPEG", exif=TURNED_ODDLY), None),
    "transparent": (encoded(PICTURE.convert("RGBA"), "WEBP"), None),
    "huge JPEG": (encoded(Image.new("L", (9_000, 9_000)), "JPEG"), None),
    "animated": (ANIMATED, "several pictures"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_said(service: Running, kind: str) -> None:
    content, status, words = BAD[kind]
    answer = post(service.url, content)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_bad_pictures_do_not_cost_their_neighbours_an_answer(service: Running) -> None:
    contents = [each for each, status, _ in BAD.values() if status in (415, 422)]
    contents += [each for each, _ in ODD.values()]
    files = [("images", content) for content in contents]
    entries = httpx.post(f"{service.url}/predict_batch", files=files, timeout=60).json()
    bad = len(contents) - len(ODD)
    assert all("top" not in each for each in entries["predictions"][:bad])
    assert all("top" in each for each in entries["predictions"][bad:])


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_are_answered(service: Running, kind: str) -> None:
    content, note = ODD[kind]
    answer = post(service.url, content)
    assert answer.status_code == 200, answer.text
    assert bool(answer.json()["notes"]) == bool(note)
    assert note is None or note in answer.json()["notes"][0]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "words"),
    [
        ("POST", "/predict", {"files": {"picture": b"x"}}, 422, "'image'"),
        ("POST", "/predict", {"data": {"image": "x"}}, 415, "multipart"),
        ("POST", "/predict", {"json": {}}, 415, "multipart"),
        ("POST", "/predict", {}, 415, "multipart"),
        (
            "POST",
            "/predict",
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "boundary",
        ),
        ("GET", "/predict", {}, 405, "does not take GET"),
        ("PUT", "/classes", {}, 405, "does not take PUT"),
        ("GET", "/nothing", {}, 404, "/docs"),
        ("GET", "/monitoring?format=xml", {}, 422, "format"),
    ],
)
def test_a_wrong_request_is_told_what_is_right(
    service: Running, method: str, path: str, options: dict[str, Any], status: int, words: str
) -> None:
    answer = httpx.request(method, service.url + path, **options)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_mutated_pictures_are_refused_or_answered(service: Running) -> None:
    dice = random.Random(0)
    sound = [path.read_bytes() for path in service.pictures[:10]]
    sound += [encoded(PICTURE, kind) for kind in ("PNG", "WEBP", "GIF", "TIFF", "BMP")]
    with httpx.Client() as client:
        for _ in range(300):
            content = mutated(dice.choice(sound), dice)
            answer = client.post(f"{service.url}/predict", files={"image": content})
            assert answer.status_code in (200, 413, 415, 422), answer.text


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, or a part cut out, doubled, or replaced by noise."""
    changed = bytearray(content)
    start, stop = sorted(dice.randrange(len(changed)) for _ in range(2))
    match dice.randrange(4):
        case 0:
            for _ in range(dice.randrange(1, 20)):
                changed[dice.randrange(len(changed))] = dice.randrange(256)
        case 1:
            del changed[start:stop]
        case 2:
            changed[start:start] = changed[start:stop]
        case _:
            changed[start:stop] = dice.randbytes(stop - start)
    return bytes(changed)


def test_its_description_is_kept(service: Running) -> None:
    """Schemathesis asks what the OpenAPI description allows, and what it does not."""
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{service.url}/openapi.json"),
            *("--max-examples", "15", "--seed", "1", "--no-color", "--phases", "coverage,fuzzing"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            # Bytes that are no picture are what the description cannot rule out.
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_all_of_it_comes_from_here(service: Running) -> None:
    for path in ("/", "/docs", "/monitoring", "/page.css", "/page.js"):
        answer = httpx.get(service.url + path)
        assert answer.status_code == 200
        assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text), path
    assert httpx.get(f"{service.url}/example").headers["content-type"] == "image/jpeg"
    assert httpx.get(f"{service.url}/livez").json() == {"status": "alive"}


def test_prometheus_sees_all_workers(service: Running) -> None:
    def predictions() -> float:
        text = httpx.get(f"{service.url}/metrics").text
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("carbench_predictions_total")
        )

    before = predictions()
    for path in service.pictures[:6]:  # each over a connection of its own: to any worker
        post(service.url, path.read_bytes())
    assert predictions() == before + 6


def test_monitoring_holds_what_came_against_what_is_known(service: Running) -> None:
    found = httpx.get(f"{service.url}/monitoring", headers={"accept": "application/json"}).json()
    assert found["model"] == read_model(service.study / "results/export").version
    page = httpx.get(f"{service.url}/monitoring")
    assert page.headers["content-type"].startswith("text/html")


def test_the_log_has_numbers_and_no_pictures(smoke_run: Project, tmp_path: Path) -> None:
    export = smoke_run.root / "results/export"
    version = read_model(export).version
    for keep in (False, True):
        log = tmp_path / f"{keep}.sqlite"
        with served(Settings(model=export, log=log, keep_pictures=keep)) as url:
            for size in (20, 30, 30):
                content = encoded(PICTURE.resize((size, size)), "PNG")
                assert post(url, content).status_code == 200
        with closing(sqlite3.connect(log)) as connection:
            pictures = [row[0] for row in connection.execute("SELECT picture FROM predictions")]
        assert len(pictures) == 3
        assert (pictures[-1] == content) == keep
        assert keep or pictures == [None] * 3
        assert len(read_window(log, version, None, None)) == 2  # a file sent twice is one picture
        assert len(read_window(log, version, 1, None)) == 1
        assert len(read_window(log, "another", None, None)) == 0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that the model takes for a picture."""
    from carbench.deployed.classifier import OnnxModel

    seconds, predict = 0.2, OnnxModel.predict

    def predict_slowly(self: OnnxModel, pixels: Any) -> Any:
        time.sleep(seconds)
        return predict(self, pixels)

    monkeypatch.setattr(OnnxModel, "predict", predict_slowly)
    return seconds


def test_under_load_it_says_so_in_time(smoke_run: Project, tmp_path: Path, slow: float) -> None:
    settings = Settings(
        model=smoke_run.root / "results/export",
        log=tmp_path / "log.sqlite",
        waiting=6,
        patience=2.5 * slow,
    )
    content = encoded(PICTURE, "JPEG")

    def ask(url: str) -> tuple[httpx.Response, float]:
        started = time.monotonic()
        answer = post(url, content)
        return answer, time.monotonic() - started

    with served(settings) as url, ThreadPoolExecutor(16) as clients:
        answers = [each.result() for each in [clients.submit(ask, url) for _ in range(16)]]
    by_status: dict[int, list[float]] = {}
    for answer, seconds in answers:
        by_status.setdefault(answer.status_code, []).append(seconds)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert "try again" in answer.json()["detail"]
    assert set(by_status) == {200, 503}
    assert len(by_status[200]) >= 2
    assert max(by_status[503]) < settings.patience + 2


def test_a_slow_client_is_told_and_holds_nobody_up(smoke_run: Project, tmp_path: Path) -> None:
    settings = Settings(
        model=smoke_run.root / "results/export", log=tmp_path / "log.sqlite", upload_seconds=0.5
    )
    with (
        served(settings) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client,
    ):
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        assert post(url, encoded(PICTURE, "JPEG")).status_code == 200
        client.settimeout(10)
        assert client.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n", b"HTTP/1.1 408"),
        (b"GET /livez HTTP/1.1\r\nX: ".ljust(HeaderLimits.MOST_BYTES + 1, b"x"), b"HTTP/1.1 431"),
        (b"", b""),
    ],
    ids=["half of them", "of the second request", "too many", "none"],
)
def test_headers_that_do_not_end(
    smoke_run: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: bytes,
    status: bytes,
) -> None:
    monkeypatch.setattr(HeaderLimits, "SECONDS", 0.5)
    settings = Settings(model=smoke_run.root / "results/export", log=tmp_path / "log.sqlite")
    with (
        served(settings) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client,
    ):
        client.settimeout(10)
        client.sendall(sent)
        said = b"".join(iter(lambda: client.recv(65_536), b""))  # until the service hangs up
        assert [*re.findall(rb"HTTP/1.1 \d+", said), b""][sent.count(b"\r\n\r\n")] == status
        assert httpx.get(f"{url}/livez").status_code == 200


def served(settings: Settings) -> Any:
    """The app in a thread of this process."""
    import uvicorn

    class Served:
        def __enter__(self) -> str:
            config = uvicorn.Config(
                create_app(settings), port=0, log_level="error", http=HeaderLimits
            )
            self.server = uvicorn.Server(config)
            self.thread = threading.Thread(target=self.server.run)
            self.thread.start()
            while not self.server.started:
                assert self.thread.is_alive()
                time.sleep(0.02)
            port = self.server.servers[0].sockets[0].getsockname()[1]
            return f"http://127.0.0.1:{port}"

        def __exit__(self, *_: object) -> None:
            self.server.should_exit = True
            self.thread.join(30)
            assert not self.thread.is_alive()

    return Served()


def test_sigterm_answers_what_is_in_flight(smoke_run: Project, tmp_path: Path) -> None:
    content = encoded(PICTURE, "JPEG")
    with running(smoke_run.root, "--log", str(tmp_path / "log.sqlite")) as started:

        def trickle() -> Iterator[bytes]:
            head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            yield head
            time.sleep(1)
            yield content + b"\r\n--b--\r\n"

        with ThreadPoolExecutor(1) as client:
            kind = {"content-type": "multipart/form-data; boundary=b"}
            answer = client.submit(
                httpx.post, f"{started.url}/predict", content=trickle(), headers=kind
            )
            time.sleep(0.5)
            started.process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
        started.process.wait(20)


def test_no_acknowledged_prediction_is_lost(smoke_run: Project, tmp_path: Path) -> None:
    """Workers are killed while they are asked; new ones take their place."""
    log = tmp_path / "log.sqlite"
    with running(smoke_run.root, "--log", str(log), "--workers", "2") as started:
        asyncio.run(ask_and_kill(started, 3, acknowledged := []))
        deadline = time.monotonic() + 20  # until the last that was killed is noticed
        while inside(started) != 0:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert len(acknowledged) > 50
    assert set(acknowledged) <= logged(log)


def inside(started: Running) -> float:
    """Requests that are being answered, as Prometheus sees them."""
    text = httpx.get(f"{started.url}/metrics").text
    (value,) = re.findall(r"^carbench_requests_inside (.*)$", text, re.M)
    return float(value)


def test_workers_end_with_a_killed_parent(smoke_run: Project, tmp_path: Path) -> None:
    log = tmp_path / "log.sqlite"
    with running(smoke_run.root, "--log", str(log), "--workers", "2") as started:
        started.process.kill()
        deadline = time.monotonic() + 20
        while listens(started.port):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


async def ask_and_kill(started: Running, kills: int, acknowledged: list[str]) -> None:
    """Ask over eight connections until so many workers were killed."""
    dice, ended = random.Random(0), False
    contents = [path.read_bytes() for path in started.pictures[:20]]

    async def ask() -> None:
        async with httpx.AsyncClient() as client:
            while not ended:
                try:
                    answer = await client.post(
                        f"{started.url}/predict", files={"image": dice.choice(contents)}
                    )
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["id"])

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    for _ in range(kills):
        await asyncio.sleep(1 + dice.random())
        workers = [pid for pid in children(started.process.pid) if is_worker(pid)]
        if workers:
            os.kill(dice.choice(workers), signal.SIGKILL)
    await asyncio.sleep(3)
    ended = True
    await asyncio.gather(*asking)


def is_worker(pid: int) -> bool:
    """Is the process one that answers, and not Python's watcher of resources?"""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def logged(log: Path) -> set[str]:
    with closing(sqlite3.connect(log)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT id FROM predictions")}


def broken_nothing(folder: Path) -> list[str]:
    return ["--model", str(folder / "nowhere")]


def broken_model(folder: Path) -> list[str]:
    (folder / "export/model.onnx").write_bytes(b"another model")
    return ["--model", str(folder / "export")]


def broken_int8(folder: Path) -> list[str]:
    (folder / "export/model.int8.onnx").unlink()
    return ["--model", str(folder / "export"), "--int8"]


def broken_log(folder: Path) -> list[str]:
    (folder / "log").write_text("this is no log, but somebody's diary, and long enough" * 30)
    return ["--model", str(folder / "export"), "--log", str(folder / "log")]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (broken_nothing, "expected a model as stage export writes it"),
        (broken_model, "another file than was exported"),
        (broken_int8, "Fix"),
        (broken_log, "file is not a database"),
    ],
)
def test_what_cannot_be_served_is_said(
    smoke_run: Project, tmp_path: Path, broken: Callable[[Path], list[str]], words: str
) -> None:
    import shutil

    shutil.copytree(smoke_run.root / "results/export", tmp_path / "export")
    done = subprocess.run(
        [sys.executable, "-m", "carbench.cli", "serve", "--port", "0", *broken(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said(service: Running, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "carbench.cli", "serve", "--port", str(service.port)),
            *("--log", str(tmp_path / "log.sqlite")),
        ],
        cwd=service.study,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "take another --port" in done.stderr
