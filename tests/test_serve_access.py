"""Access control, HEAD, request ids, API versions, CPU quotas and options of the service."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attacks import encoded
from carbench.core.parallel import available_cores, cpu_quota
from carbench.deploy.bundle.model_metadata import ModelMetadata
from carbench.deploy.serve.access_control import resolve_allowed_hosts
from carbench.deploy.serve.schemas import DriftReport
from carbench.deploy.serve.settings import Settings
from service_process import RunningService, run_service, serve_in_thread
from test_serve import IMAGE

pytestmark = pytest.mark.slow
ORDINARY = encoded(IMAGE, "JPEG")
KEY = "a-long-secret"


@pytest.fixture(scope="module")
def guarded(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local service with an API key and one allowed origin."""
    settings = Settings(
        model=deployed / "results/export",
        log=tmp_path_factory.mktemp("guarded") / "log.sqlite",
        allowed_hosts=resolve_allowed_hosts("127.0.0.1", ["cars.example.org"]),
        allowed_origins=["https://app.example.org"],
        api_key_sha256=hashlib.sha256(KEY.encode()).hexdigest(),
    )
    with serve_in_thread(settings) as url:
        yield url


def ask(url: str, **headers: str) -> int:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"x-api-key": KEY, "content-type": "image/jpeg"} | headers
    return httpx.post(f"{url}/v1/predict", content=ORDINARY, headers=headers).status_code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "cars.example.org"}, 200),
        ({"host": "CARS.example.org:80"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "attacker.example"}, 421),
        ({"host": ""}, 421),
        ({"host": "[::1"}, 421),
        ({"host": "localhost.attacker.example"}, 421),
        ({"origin": "https://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://cars.example.org:81", "host": "cars.example.org"}, 403),
        ({"origin": "http://cars.example.org", "host": "cars.example.org"}, 200),
        ({"origin": "https://app.example.org"}, 200),
        ({"origin": "https://app.example.org.attacker.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"x_api_key": "wrong"}, 401),
        ({"x_api_key": ""}, 401),
        ({"x_api_key": "", "authorization": f"Bearer {KEY}"}, 200),
        ({"x_api_key": "", "authorization": f"Basic {KEY}"}, 401),
    ],
    ids=str,
)
def test_access_depends_on_host_origin_and_api_key(
    guarded: str, headers: dict[str, str], status: int
) -> None:
    assert ask(guarded, **headers) == status


def test_only_the_web_page_and_health_checks_need_no_api_key(guarded: str) -> None:
    for path in ("/livez", "/readyz", "/", "/page.js"):
        assert httpx.get(guarded + path).status_code == 200
    for path in ("/metrics", "/monitoring", "/v1/model", "/docs", "/nothing"):
        answer = httpx.get(guarded + path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "API key" in answer.json()["detail"]


def test_pages_of_an_allowed_origin_pass_cors(guarded: str) -> None:
    headers = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    headers["access-control-request-headers"] = "x-api-key"
    asked = httpx.options(f"{guarded}/v1/predict", headers=headers)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://app.example.org"
    refused = httpx.options(f"{guarded}/v1/predict", headers=headers | {"origin": "https://x.org"})
    assert "access-control-allow-origin" not in refused.headers


def test_default_allowed_hosts_depend_on_the_listening_address() -> None:
    assert resolve_allowed_hosts("127.0.0.1", []) == ["localhost", "127.0.0.1", "::1"]
    assert resolve_allowed_hosts("0.0.0.0", []) == ["*"]
    assert "*" not in resolve_allowed_hosts("0.0.0.0", ["cars.example.org"])


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/classes", "/metrics", "/example"])
def test_head_is_get_without_the_body(service: RunningService, path: str) -> None:
    head, get = httpx.head(service.url + path), httpx.get(service.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":
        assert head.headers["content-length"] == get.headers["content-length"]
    assert httpx.head(f"{service.url}/v1/predict").status_code == 405


def test_request_and_trace_ids_are_echoed(service: RunningService) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-request-id": "abc-123", "traceparent": trace}
    for path in ("/livez", "/nothing"):
        answer = httpx.get(service.url + path, headers=headers)
        assert answer.headers["x-request-id"] == "abc-123"
        assert answer.headers["traceparent"] == trace
    made = httpx.get(f"{service.url}/livez", headers={"x-request-id": "a b", "traceparent": "00-0"})
    assert len(made.headers["x-request-id"]) == 32
    assert "traceparent" not in made.headers


def test_versioned_and_unversioned_paths_are_equivalent(service: RunningService) -> None:
    """Paths below /v1 are documented; without the version they give the same responses."""
    document = httpx.get(f"{service.url}/openapi.json").json()
    operations: dict[str, Any] = {
        operation["operationId"]: path
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }
    assert operations == {
        "predict": "/v1/predict",
        "predict_batch": "/v1/predict_batch",
        "classes": "/v1/classes",
        "model": "/v1/model",
        "livez": "/livez",
        "readyz": "/readyz",
        "prometheus": "/metrics",
        "monitoring": "/monitoring",
        "example": "/example",
    }
    model = httpx.get(f"{service.url}/v1/model").json()
    assert httpx.get(f"{service.url}/model").json() == model
    assert ModelMetadata.model_validate(model).version == model["version"]
    report = httpx.get(f"{service.url}/monitoring?format=json", timeout=30).json()
    assert DriftReport.model_validate(report).model == model["version"]
    for path in ("/v1/model", "/monitoring"):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]
        assert "$ref" in content["application/json"]["schema"]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, float("inf")),
        ({"pod/cpu.max": "max 100000", "cpu.max": "50000 100000"}, 0.5),
        ({"pod/cpu.max": "300000 100000"}, 3),
        ({"pod/cpu.max": "garbage"}, float("inf")),
        ({"cpu/pod/cpu.cfs_quota_us": "200000", "cpu/pod/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/pod/cpu.cfs_quota_us": "-1", "cpu/pod/cpu.cfs_period_us": "100000"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_cpu_quota_of_a_container_is_respected(
    tmp_path: Path, files: dict[str, str], cores: float
) -> None:
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    own = tmp_path / "own"
    own.write_text("4:memory:/x\n3:cpu,cpuacct:/pod\n0::/pod\n")
    assert cpu_quota(tmp_path / "cgroup", own) == cores
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "nowhere") == float("inf")
    assert available_cores() >= 1


def test_a_warning_is_logged_if_others_can_access_service_or_log(
    deployed: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.sqlite"
    log.touch(0o644)
    with run_service(deployed, "--host", "0.0.0.0", "--workers", "1", "--log", str(log)) as started:
        assert httpx.get(f"{started.url}/livez", headers={"host": "any"}).status_code == 200
        started.process.terminate()
        stderr = started.process.communicate(timeout=30)[1]
    assert "0.0.0.0 is reachable from other machines" in stderr
    assert "is readable by other users (mode 644)" in stderr
    assert started.process.returncode == 0


def test_all_options_are_documented() -> None:
    """The help text lists all options, and docs/serving.md explains each."""
    help_text = subprocess.run(
        [sys.executable, "-m", "carbench.cli.main", "serve", "--help"],
        capture_output=True,
        text=True,
    ).stdout
    options = {word.strip("[],;") for word in help_text.split() if word.startswith(("--", "[--"))}
    page = (Path(__file__).parents[1] / "docs/serving.md").read_text()
    assert len(options) > 15
    assert {option for option in options if f"`{option}" not in page} <= {"--help"}


def test_onnx_runtime_reports_nothing(deployed: Path, tmp_path: Path) -> None:
    """Its telemetry keeps an identifier of the machine and what it has not sent yet in ~/.cache."""
    load = (
        "from pathlib import Path; from carbench.models.onnx_classifier import OnnxModel;"
        "OnnxModel(Path('results/export/model.onnx'), 1)"
    )
    # It keeps quiet in continuous integration anyway.
    variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    if "PYTHONPATH" in os.environ:
        variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
    subprocess.run([sys.executable, "-c", load], cwd=deployed, env=variables, check=True)
    assert list(tmp_path.iterdir()) == []
