"""The Kaggle client against a loopback server that imitates Kaggle and its errors."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from carbench.core.errors import CarbenchError
from carbench.core.params import read_section
from carbench.data.sources import kaggle
from carbench.data.sources.ingest import ingest_images
from carbench.data.sources.open_source import open_source
from carbench.params.data import DataParams
from test_sources import tree


def dataset() -> bytes:
    """A dataset's zip, as Kaggle serves it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in tree("Audi", "Rolls Royce").items():
            archive.writestr(f"Cars Dataset/{name}", content)
    return file.getvalue()


@dataclass
class FakeKaggle:
    """The planned responses of the server, and the received requests."""

    url: str = ""
    body: bytes = field(default_factory=dataset)
    faults: list[object] = field(default_factory=list)  # a status, "truncate" or "corrupt"
    token: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKaggle]:
    fake = FakeKaggle()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.requests.append(dict(self.headers))
            fault = fake.faults.pop(0) if fake.faults else None
            if fake.token and fake.token not in self.headers.get("Authorization", ""):
                fault = 401
            if isinstance(fault, int):
                self.send_response(fault)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            body = fake.body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Accept-Ranges", "bytes")
            digest = base64.b64encode(hashlib.md5(fake.body).digest()).decode()
            self.send_header("X-Goog-Hash", f"md5={digest}")
            self.end_headers()
            if fault == "truncate":
                body = body[: len(body) // 2]
            if fault == "corrupt":
                body = body[:100] + bytes([body[100] ^ 1]) + body[101:]
            self.wfile.write(body)
            self.close_connection = True

        do_GET = do_POST = answer  # noqa: N815

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{http.server_address[1]}"
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, fake.url)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # Waiting is the client's business with Kaggle; the test need not wait with it.
    monkeypatch.setattr(kaggle._download.retry, "sleep", lambda seconds: None)
    yield fake
    http.shutdown()


def downloaded() -> dict[str, bytes]:
    root = kaggle.download_dataset("owner/cars", 4)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


EXPECTED = {
    f"Cars Dataset/{name}": content for name, content in tree("Audi", "Rolls Royce").items()
}


def test_a_public_dataset_is_downloaded_anonymously_and_once(server: FakeKaggle) -> None:
    assert downloaded() == EXPECTED
    asked = len(server.requests)
    assert "Authorization" not in server.requests[0]
    assert downloaded() == EXPECTED
    assert len(server.requests) == asked


def test_a_key_is_used(server: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    server.token = base64.b64encode(b"somebody:secret").decode()
    assert downloaded() == EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("faults", [[429, 429], [503], ["truncate"], ["corrupt"]])
def test_transient_errors_are_retried(server: FakeKaggle, faults: list[object]) -> None:
    server.faults = list(faults)
    assert downloaded() == EXPECTED


def test_a_truncated_body_is_resumed(server: FakeKaggle) -> None:
    server.faults = ["truncate"]
    downloaded()
    assert any("Range" in request for request in server.requests)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (401, "credentials refused"),
        (403, "no permission"),
        (404, "no such dataset or version"),
        (429, "too many requests"),
        ("corrupt", "DataCorruptionError"),
    ],
)
def test_permanent_errors_are_explained(server: FakeKaggle, fault: object, words: str) -> None:
    server.faults = [fault] * 50
    with pytest.raises(CarbenchError, match=words) as caught:
        kaggle.download_dataset("owner/cars", 4)
    assert "owner/cars/versions/4" in str(caught.value)
    assert "Fix:" in str(caught.value)


def test_no_network_is_explained(server: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9"
    )
    with pytest.raises(CarbenchError, match="check the network"):
        kaggle.download_dataset("owner/cars", 4)


def test_the_kaggle_source_gives_the_same_manifest(
    server: FakeKaggle, study: object, tmp_path: Path
) -> None:
    path = study({"data.source": "kaggle"})  # type: ignore[operator]
    params = read_section(path, "data", DataParams)
    with open_source(params, tmp_path) as files:
        collected = ingest_images(files, params, "Kaggle", tmp_path / "images")
    assert {row["image"] for row in collected.manifest} == set(tree("Audi", "Rolls Royce"))
