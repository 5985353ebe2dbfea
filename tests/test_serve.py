"""The service: predictions, invalid images and requests, OpenAPI, metrics."""

from __future__ import annotations

import csv
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from attacks import encoded
from bundles import write_bundle
from carbench.deploy.bundle.exported_model import read_model
from carbench.deploy.serve.settings import Settings
from conftest import TURNED_ODDLY, Project
from service_process import RunningService, serve_in_thread

pytestmark = pytest.mark.slow
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def post(url: str, content: bytes, field: str = "image", name: str = "a.jpg") -> httpx.Response:
    return httpx.post(f"{url}/v1/predict", files={field: (name, content)}, timeout=60)


def test_predictions_equal_those_of_stage_evaluate(smoke_run: Project, tmp_path: Path) -> None:
    """For each test image, with the probabilities after temperature scaling."""
    settings = Settings(model=smoke_run.root / "results/export", log=tmp_path / "log.sqlite")
    with serve_in_thread(settings) as url:
        compare_with_evaluation(url, smoke_run.root / "results")


def compare_with_evaluation(url: str, results: Path) -> None:
    about = httpx.get(f"{url}/v1/model").json()
    run = f"{about['backbone']}/{about['seed']}"
    with (results / "evaluate" / run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert about["parity"]["same_top1"] == len(rows)
    for row in rows:
        answer = post(url, (results / "data/images" / row["image"]).read_bytes()).json()
        shares = np.array([float(row[f"p:{name}"]) for name in about["classes"]])
        tempered = shares ** (1 / about["temperature"])
        tempered /= tempered.sum()
        assert answer["top"][0]["class"] == row["predicted"]
        assert answer["top"][0]["probability"] == pytest.approx(tempered.max(), abs=1e-3)
        assert answer["model"] == about["version"]


def test_a_batch_gives_the_same_predictions_as_single_requests(service: RunningService) -> None:
    contents = [path.read_bytes() for path in service.images[:3]]
    alone = [post(service.url, content).json()["top"][0]["class"] for content in contents]
    files = [("images", content) for content in [*contents[:2], b"no image", contents[2]]]
    entries = httpx.post(f"{service.url}/predict_batch", files=files).json()["predictions"]
    assert [each["top"][0]["class"] for each in entries if "top" in each] == alone
    assert entries[2]["status"] == 415
    too_many = httpx.post(f"{service.url}/predict_batch", files=files[:1] * 65)
    assert too_many.status_code == 413


ANIMATED = encoded(IMAGE, "GIF", save_all=True, append_images=[IMAGE.rotate(90)])
TURNED = Image.Exif()
TURNED[0x0112] = 6
BAD: dict[str, tuple[bytes, int, str]] = {
    "no image": (b"hello", 415, "not an image"),
    "a program that draws": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        415,
        "not an image",
    ),
    "empty": (b"", 422, "empty"),
    "truncated": (encoded(IMAGE, "JPEG")[:300], 422, "decoded"),
    "corrupt": (encoded(IMAGE, "PNG")[:90] + bytes(400), 422, "decoded"),
    "cut within a header": (ANIMATED[: ANIMATED.rindex(b"!\xf9") + 10], 422, "decoded"),
    "a bomb": (encoded(Image.new("1", (20_000, 20_000)), "PNG"), 413, "pixels"),
    "huge": (encoded(Image.new("L", (8_000, 8_000)), "PNG"), 413, "pixels"),
    "large": (bytes(21_000_000), 413, "20 MB"),
}
ODD: dict[str, tuple[bytes, str | None]] = {
    "CMYK": (encoded(IMAGE.convert("CMYK"), "JPEG"), None),
    "palette": (encoded(IMAGE.convert("P"), "PNG"), None),
    "16 bits": (encoded(Image.fromarray(np.full((40, 60), 40_000, np.uint16)), "PNG"), None),
    "turned": (encoded(IMAGE, "JPEG", exif=TURNED), None),
    "turned, with odd metadata": (encoded(IMAGE, "JPEG", exif=TURNED_ODDLY), None),
    "transparent": (encoded(IMAGE.convert("RGBA"), "WEBP"), None),
    "huge JPEG": (encoded(Image.new("L", (9_000, 9_000)), "JPEG"), None),
    "animated": (ANIMATED, "several images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_images_are_rejected_with_a_reason(service: RunningService, kind: str) -> None:
    content, status, message = BAD[kind]
    answer = post(service.url, content)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]


@pytest.mark.parametrize(
    ("threshold", "member"), [(None, None), (0.92, 0.06), (0.93, 0.0), (0.93, 1.0)]
)
def test_the_response_states_confidence_and_prediction_set(
    tmp_path: Path, threshold: float | None, member: float | None
) -> None:
    """According to the thresholds of the exported folder; without them both are null."""
    decision = {"threshold": threshold, "set_threshold": member}
    folder = write_bundle(tmp_path / "export", decision=decision)
    with serve_in_thread(Settings(model=folder, log=tmp_path / "log.sqlite")) as url:
        answer = post(url, (folder / "example.jpg").read_bytes()).json()
    first = answer["top"][0]["probability"]
    assert first == pytest.approx(0.928, abs=0.001)
    assert answer["sure"] is (None if threshold is None else first > threshold)
    if member is None:
        assert answer["prediction_set"] is None
        return
    # The most probable class is always in the set.
    expected = [each["class"] for each in answer["top"] if each["probability"] > member]
    expected = expected or [answer["top"][0]["class"]]
    assert answer["prediction_set"][: len(expected)] == expected
    assert (len(answer["prediction_set"]) == 4) == (member == 0.0)


def test_an_image_can_be_sent_as_the_body(service: RunningService) -> None:
    content = service.images[0].read_bytes()
    expected = post(service.url, content).json()["top"]
    for kind in ("image/jpeg", "image/png", "application/octet-stream"):
        headers = {"content-type": kind}
        answer = httpx.post(f"{service.url}/v1/predict", content=content, headers=headers)
        assert answer.json()["top"] == expected
    for path, count in (("/v1/predict?top_k=1", 1), ("/predict?top_k=50", 4)):
        answer = httpx.post(service.url + path, content=content, headers=JPEG)
        assert len(answer.json()["top"]) == count


def test_invalid_images_do_not_affect_others_in_a_batch(service: RunningService) -> None:
    contents = [each for each, status, _ in BAD.values() if status in (415, 422)]
    contents += [each for each, _ in ODD.values()]
    files = [("images", content) for content in contents]
    entries = httpx.post(f"{service.url}/predict_batch", files=files, timeout=60).json()
    bad = len(contents) - len(ODD)
    assert all("top" not in each for each in entries["predictions"][:bad])
    assert all("top" in each for each in entries["predictions"][bad:])


@pytest.mark.parametrize("kind", ODD)
def test_unusual_images_are_classified(service: RunningService, kind: str) -> None:
    content, note = ODD[kind]
    answer = post(service.url, content)
    assert answer.status_code == 200, answer.text
    assert bool(answer.json()["notes"]) == bool(note)
    assert note is None or note in answer.json()["notes"][0]


JPEG = {"content-type": "image/jpeg"}


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "message"),
    [
        ("POST", "/predict", {"files": {"file": b"x"}}, 422, "'image'"),
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
        ("GET", "/predict", {}, 405, "does not accept GET"),
        ("PUT", "/v1/classes", {}, 405, "does not accept PUT"),
        ("POST", "/v1/predict?top_k=0", {"files": {"image": b"x"}}, 422, "top_k"),
        ("POST", "/v1/predict_batch", {"content": b"x", "headers": JPEG}, 415, "multipart"),
        ("GET", "/nothing", {}, 404, "/docs"),
        ("GET", "/monitoring?format=xml", {}, 422, "format"),
    ],
)
def test_invalid_requests_get_a_helpful_error(
    service: RunningService,
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
    message: str,
) -> None:
    answer = httpx.request(method, service.url + path, **options)
    assert answer.status_code == status
    assert message in answer.json()["detail"]


def test_mutated_images_never_cause_a_server_error(service: RunningService) -> None:
    rng = random.Random(0)
    sound = [path.read_bytes() for path in service.images[:10]]
    sound += [encoded(IMAGE, kind) for kind in ("PNG", "WEBP", "GIF", "TIFF", "BMP")]
    with httpx.Client() as client:
        for _ in range(300):
            content = mutated(rng.choice(sound), rng)
            answer = client.post(f"{service.url}/predict", files={"image": content})
            assert answer.status_code in (200, 413, 415, 422), answer.text


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return content with changed bytes, or with a part removed, repeated or replaced by noise."""
    changed = bytearray(content)
    start, stop = sorted(rng.randrange(len(changed)) for _ in range(2))
    match rng.randrange(4):
        case 0:
            for _ in range(rng.randrange(1, 20)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        case 1:
            del changed[start:stop]
        case 2:
            changed[start:start] = changed[start:stop]
        case _:
            changed[start:stop] = rng.randbytes(stop - start)
    return bytes(changed)


def test_the_service_conforms_to_its_openapi_description(service: RunningService) -> None:
    """Schemathesis sends requests that the OpenAPI description allows, and others."""
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{service.url}/openapi.json"),
            *("--max-examples", "15", "--seed", "1", "--no-color", "--phases", "coverage,fuzzing"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            # Excluded: the description cannot state that the bytes must be an image.
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_pages_load_nothing_from_other_servers(service: RunningService) -> None:
    for path in ("/", "/docs", "/monitoring", "/page.css", "/page.js"):
        answer = httpx.get(service.url + path)
        assert answer.status_code == 200
        assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text), path
    assert httpx.get(f"{service.url}/example").headers["content-type"] == "image/jpeg"
    assert httpx.get(f"{service.url}/livez").json() == {"status": "alive"}


def test_metrics_cover_all_workers(service: RunningService) -> None:
    def predictions() -> float:
        text = httpx.get(f"{service.url}/metrics").text
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("carbench_predictions_total")
        )

    before = predictions()
    for path in service.images[:6]:  # each over a new connection, to any worker
        post(service.url, path.read_bytes())
    assert predictions() == before + 6


def test_monitoring_is_available_as_json_and_html(service: RunningService) -> None:
    found = httpx.get(f"{service.url}/monitoring", headers={"accept": "application/json"}).json()
    assert found["model"] == read_model(service.study / "results/export").version
    page = httpx.get(f"{service.url}/monitoring")
    assert page.headers["content-type"].startswith("text/html")
