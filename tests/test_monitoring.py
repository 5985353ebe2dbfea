"""Alert rules and the dashboard of the service: with promtool, Prometheus and a real service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from attacks import encoded
from bundles import coloured
from conftest import ROOT, wait_for
from service_process import RunningService, free_port, run_service

PROMETHEUS = ROOT / "envs/prometheus"
DASHBOARD = ROOT / "envs/grafana/carbench.json"
SELECTOR = re.compile(r"(carbench_\w+)(?:\{([^}]*)\})?")
needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Prometheus is not installed"
)


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list[str]:
    """Every PromQL expression of the rules and the dashboard."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    alerts = [rule["expr"] for group in groups for rule in group["rules"]]
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return alerts + shown


@needs_prometheus
@pytest.mark.parametrize(
    "check",
    [
        ("check", "config", "envs/prometheus/prometheus.yml"),
        ("test", "rules", "tests/prometheus_rules.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_rules(check: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test() -> None:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    tests = yaml.safe_load((ROOT / "tests/prometheus_rules.yml").read_text())["tests"]
    firing = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert firing == {rule["alert"] for group in groups for rule in group["rules"]}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    cells = [
        (column, row)
        for place in (panel["gridPos"] for panel in panels())
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24  # the columns of Grafana


@pytest.fixture(scope="module")
def busy(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with enough predictions for drift detection."""
    log = tmp_path_factory.mktemp("busy") / "predictions.sqlite"
    with run_service(deployed, "--log", str(log)) as started:
        predict(started, 40)
        httpx.get(f"{started.url}/monitoring?format=json").raise_for_status()
        yield started


def predict(service: RunningService, count: int) -> None:
    """Send different images."""
    for pixels in coloured(np.random.default_rng(), count):
        files = {"image": encoded(Image.fromarray(pixels), "PNG")}
        httpx.post(f"{service.url}/v1/predict", files=files, timeout=60).raise_for_status()


@pytest.mark.slow
def test_the_service_has_every_metric_and_label_that_is_used(busy: RunningService) -> None:
    exposed: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{busy.url}/metrics").text):
        for sample in family.samples:
            exposed.setdefault(sample.name, set()).update(sample.labels)
    for expression in expressions():
        for name, matchers in SELECTOR.findall(expression):
            assert name in exposed, expression
            labels = set(re.findall(r'(\w+)(?:=|!=|=~|!~)"', matchers))
            assert labels - {"job", "instance"} <= exposed[name], expression


@pytest.mark.slow
@needs_prometheus
def test_every_panel_shows_data_of_a_running_service(busy: RunningService, tmp_path: Path) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{busy.port}"]
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--web.listen-address={address}", "--config.file=prometheus.yml"]
    process = subprocess.Popen(
        [*command, "--storage.tsdb.path=data"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def query(expression: str) -> list[Any]:
        answer = httpx.get(f"http://{address}/api/v1/query", params={"query": expression})
        return answer.raise_for_status().json()["data"]["result"]

    def scrapes() -> int:
        try:
            found = query("count_over_time(up{job='carbench'}[5m])")
        except httpx.HTTPError:  # not yet ready
            return 0
        return int(found[0]["value"][1]) if found else 0

    try:
        wait_for(scrapes, process)
        predict(busy, 5)
        enough = scrapes() + 2
        wait_for(lambda: scrapes() >= enough, process)
        for panel in panels():
            for target in panel["targets"]:
                text = target["expr"].replace("$__rate_interval", "5m")
                found = query(text.replace("$instance", ".*"))
                assert found, panel["title"]
                assert all(series["value"][1] != "NaN" for series in found), panel["title"]
    finally:
        process.terminate()
        process.communicate(timeout=30)
