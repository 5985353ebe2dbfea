"""The hub client against a loopback server that imitates the hub and its errors."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_table, write_table
from carbench.models.model_file import read_metadata
from carbench.params.presets import apply_preset
from carbench.params.train import WeightsHub
from carbench.screening.candidates import read_weights_table
from conftest import ROOT, SMOKE

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "somebody/cars-resnet"
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


def weights() -> bytes:
    """Tensors of timm's test_resnet, as its repository would hold them."""
    import timm

    state = timm.create_model("test_resnet", num_classes=10).state_dict()
    return save({name: tensor.numpy() for name, tensor in state.items()})


@dataclass
class FakeHub:
    """The files and planned responses of the server, and the received requests."""

    weights: bytes
    config: dict[str, object]
    url: str = ""
    fault: object = None  # a status, "truncate" or "corrupt"; of the weights only
    requests: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.weights).hexdigest()

    @property
    def pin(self) -> dict[str, str]:
        return {"hub": REPOSITORY, "revision": REVISION, "sha256": self.sha256}


@pytest.fixture(scope="module")
def content() -> bytes:
    return weights()


@pytest.fixture
def hub(content: bytes) -> Iterator[FakeHub]:
    inputs = {"mean": MEAN, "std": STD, "tag": "mine"}
    fake = FakeHub(content, {"architecture": "test_resnet", "pretrained_cfg": inputs})

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            fake.requests.append(f"{self.command} {self.path}")
            name = self.path.rpartition("/")[2]
            if self.path.startswith(f"/api/models/{REPOSITORY}"):
                self.say(200, json.dumps(self.listing()).encode())
            elif self.path.startswith(f"/{REPOSITORY}/resolve/{REVISION}/"):
                body = fake.weights if name == "model.safetensors" else None
                body = body or json.dumps(fake.config).encode()
                fault = fake.fault if name == "model.safetensors" else None
                self.say(fault if isinstance(fault, int) else 200, body, fault)
            else:
                self.say(404, b"")

        do_HEAD = do_GET  # noqa: N815

        def listing(self) -> dict[str, object]:
            lfs = {"sha256": fake.sha256, "size": len(fake.weights), "pointerSize": 134}
            file = {"rfilename": "model.safetensors", "size": len(fake.weights), "lfs": lfs}
            return {"id": REPOSITORY, "sha": REVISION, "siblings": [file]}

        def say(self, status: int, body: bytes, fault: object = None) -> None:
            etag = hashlib.sha256(body).hexdigest()
            start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
            if status == 200 and start:
                status, body = 206, body[start:]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if status < 300 else 0))
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.end_headers()
            if self.command == "HEAD" or status >= 300:
                return
            if fault == "truncate":
                body = body[: len(body) // 2]
                self.close_connection = True
            if fault == "corrupt":
                body = body[:-100] + bytes([body[-100] ^ 1]) + body[-99:]
            self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield fake
    http.shutdown()


@dataclass
class Desk:
    """A folder with a study and a cache of the hub's client."""

    folder: Path
    hub: FakeHub
    env: dict[str, str]

    def study(self, start: object) -> Path:
        params = copy.deepcopy(SMOKE)
        params["backbones"]["resnet"]["weights"] = start
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        return path

    def run(self, *command: object, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | self.env | env,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done

    def weights(self, start: object, **env: str) -> subprocess.CompletedProcess[str]:
        """The stage weights."""
        params = self.study(start)
        self.output.unlink(missing_ok=True)
        options = ("--params", params, "--backbone", "resnet", "--output", self.output)
        return self.run("scripts/weights.py", *options, **env)

    @property
    def output(self) -> Path:
        return self.folder / "resnet.safetensors"


@pytest.fixture
def desk(hub: FakeHub, tmp_path: Path) -> Desk:
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
    return Desk(tmp_path, hub, env)


@pytest.mark.slow  # loads torch and timm, some times
def test_pinned_weights_are_downloaded_once(desk: Desk) -> None:
    done = desk.weights(desk.hub.pin)
    assert done.returncode == 0, done.stderr
    about = read_metadata(desk.output)
    assert {key: about[key] for key in ("start", "hub", "revision", "sha256", "mean", "std")} == {
        "start": "hub",
        **desk.hub.pin,
        "mean": MEAN,
        "std": STD,
    }
    first = desk.output.read_bytes()
    asked = len(desk.hub.requests)
    assert any("model.safetensors" in request for request in desk.hub.requests)
    assert desk.weights(desk.hub.pin).returncode == 0
    assert not [each for each in desk.hub.requests[asked:] if REPOSITORY in each]
    assert desk.weights(desk.hub.pin, HF_HUB_OFFLINE="1").returncode == 0
    assert desk.output.read_bytes() == first


@pytest.mark.slow  # loads torch and timm, some times
def test_corruption_of_the_right_length_is_detected_and_repaired(desk: Desk) -> None:
    desk.hub.fault = "corrupt"
    done = desk.weights(desk.hub.pin)
    assert done.returncode == 1
    assert "downloading it again" in done.stderr
    assert "backbones.resnet.weights.sha256: found model.safetensors" in done.stderr
    assert not desk.output.exists()
    desk.hub.fault = None
    assert desk.weights(desk.hub.pin).returncode == 0


def test_weights_other_than_the_pinned_ones_are_rejected(desk: Desk) -> None:
    done = desk.weights(desk.hub.pin | {"sha256": "0" * 64})
    assert done.returncode == 1
    assert f"with sha256 {desk.hub.sha256}; expected {'0' * 64}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (401, "permission denied (status 401)"),
        (403, "permission denied (status 403)"),
        (404, "no such repository, revision or file (status 404)"),
        ("truncate", "interrupted"),
    ],
)
def test_errors_are_explained(desk: Desk, fault: object, words: str) -> None:
    desk.hub.fault = fault
    done = desk.weights(desk.hub.pin)
    assert done.returncode == 1
    assert words in done.stderr
    assert f"model.safetensors of {REPOSITORY} at {REVISION}" in done.stderr
    assert "Fix:" in done.stderr
    assert not desk.output.exists()


def test_a_missing_repository_is_explained(desk: Desk) -> None:
    done = desk.weights(desk.hub.pin | {"hub": "somebody/else"})
    assert done.returncode == 1
    assert "no such repository" in done.stderr


def test_offline_mode_without_cache_is_explained(desk: Desk) -> None:
    done = desk.weights(desk.hub.pin, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "not in the local cache, and HF_HUB_OFFLINE is set" in done.stderr
    assert not desk.hub.requests


def test_weights_of_another_model_are_rejected(desk: Desk) -> None:
    desk.hub.config["architecture"] = "resnet18"
    done = desk.weights(desk.hub.pin)
    assert done.returncode == 1
    assert "found weights of resnet18" in done.stderr


def test_unpinned_weights_are_rejected_and_can_be_pinned(desk: Desk) -> None:
    done = desk.weights("pretrained")
    assert done.returncode == 1
    assert "found 'pretrained'" in done.stderr
    assert "carbench pin" in done.stderr
    assert not desk.hub.requests

    done = desk.run("-m", "carbench.cli.main", "pin", REPOSITORY)
    assert yaml.safe_load(done.stdout) == desk.hub.pin
    done = desk.run("-m", "carbench.cli.main", "pin", "somebody/else")
    assert done.returncode == 1
    assert "no such repository" in done.stderr


def test_pins_replace_only_the_unpinned_weights(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the file nothing else changes; the repositories are timm's."""
    from carbench.models import pin_backbones as pin

    asked = []

    def newest(repository: str, key: str) -> pin.WeightsHub:
        asked.append(repository)
        return pin.WeightsHub(**hub.pin)

    monkeypatch.setattr(pin, "newest_pin", newest)
    path = tmp_path / "params.yaml"
    before = apply_preset(ROOT / "presets/kaggle-cars.yaml")
    path.write_text(before)
    assert list(pin.pin_backbones(path)) == list(yaml.safe_load(before)["backbones"])
    assert asked[0] == "timm/resnet50.a1_in1k"
    written = pin.pin_as_yaml(pin.WeightsHub(**hub.pin))
    assert path.read_text() == before.replace("weights: pretrained", f"weights: {written}")
    from carbench.params.study import check

    for backbone in check(path).backbones.values():
        assert backbone.weights == pin.WeightsHub(**hub.pin)
    assert pin.pin_backbones(path) == {}


@pytest.mark.slow  # loads torch and timm, some times
def test_screened_weights_are_kept_only_if_configured(desk: Desk, made: Path) -> None:
    row = {"model": "test_resnet.mine", "file": "", **desk.hub.pin}
    write_table(desk.folder / "weights.csv", ["model", "file", "hub", "revision", "sha256"], [row])

    def screen(**features: object) -> subprocess.CompletedProcess[str]:
        path = desk.study("random")
        params = yaml.safe_load(path.read_text())
        params["screen"]["candidates"] = {"tiny": ["test_resnet"]}
        params["screen"]["weights"] = str(desk.folder / "weights.csv")
        params["screen"]["features"] |= features
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        return desk.run(
            *("scripts/screen.py", "--params", path, "--pool", "tiny", "--pack", made),
            *("--split", made / "split.csv", "--output", desk.folder / "screen"),
        )

    def kept() -> list[Path]:
        return list((desk.folder / "hf").rglob("model.safetensors"))

    done = screen()
    assert done.returncode == 0, done.stderr
    (found,) = read_table(desk.folder / "screen/candidates.csv")
    assert (found["start"], found["status"]) == ("hub", "screened")
    assert not kept()
    assert screen(keep_weights=True).returncode == 0
    assert kept()
    asked = len(desk.hub.requests)
    assert screen().returncode == 0  # what is kept is used, whoever kept it
    assert not [each for each in desk.hub.requests[asked:] if REPOSITORY in each]
    assert kept()


@pytest.mark.slow  # loads timm
def test_pins_of_candidates_are_added_to_the_table(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carbench.screening import pin_candidates

    refused = CarbenchError("hub", found="nothing", expected="weights", fix="wait")
    answers = iter([refused, *[WeightsHub(**hub.pin)] * 10])

    def newest(repository: str, key: str) -> WeightsHub:
        if isinstance(answer := next(answers), CarbenchError):
            raise answer
        return answer

    monkeypatch.setattr(pin_candidates, "newest_pin", newest)
    params = copy.deepcopy(SMOKE)
    params["screen"]["candidates"] = {"one": ["resnet18.a*"], "two": ["tf_efficientnet_lite0"]}
    params["screen"]["weights"] = str(tmp_path / "weights.csv")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "weights.csv").write_bytes((ROOT / "presets/weights.csv").read_bytes())
    found = dict(pin_candidates.pin_candidates(tmp_path / "params.yaml"))
    (failed, *pinned) = sorted(found)
    assert found[failed] is refused
    assert pinned
    known = read_weights_table(tmp_path / "weights.csv")
    assert {name for name, pin in known.items() if pin == WeightsHub(**hub.pin)} == set(pinned)
    assert len(known) == 3 + len(pinned)
    # Only the failed model is queried again.
    assert list(pin_candidates.pin_candidates(tmp_path / "params.yaml")) == [
        (failed, WeightsHub(**hub.pin))
    ]


@pytest.mark.slow  # loads torch and timm, some times
def test_training_uses_the_normalisation_of_the_weights(desk: Desk) -> None:
    """Not as timm's entry for the model says: another tag may have been trained otherwise."""
    assert desk.weights(desk.hub.pin).returncode == 0
    params = desk.study(desk.hub.pin)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), np.uint8)
    np.save(desk.folder / "images.npy", pixels)
    names = [f"{number}.png" for number in range(12)]
    index = "".join(f"{row},{name}\n" for row, name in enumerate(names))
    (desk.folder / "index.csv").write_text("row,image\n" + index)
    parts = "".join(
        f"{name},{'ab'[row % 2]},{row},{'train' if row < 8 else 'val'},0\n"
        for row, name in enumerate(names)
    )
    (desk.folder / "split.csv").write_text("image,class,group,split,leaked\n" + parts)
    (desk.folder / "tune.csv").write_text("lr,epoch,val_accuracy,val_loss,chosen\n")
    done = desk.run(
        *("scripts/train.py", "--params", params, "--backbone", "resnet", "--seed", 0),
        *("--pack", desk.folder, "--split", desk.folder / "split.csv"),
        *("--weights", desk.output, "--tune", desk.folder / "tune.csv"),
        *("--output", desk.folder / "run"),
        HF_HUB_OFFLINE="1",
    )
    assert done.returncode == 0, done.stderr
    assert "started from hub; re-initialised: fc.bias, fc.weight" in done.stderr
    card = read_metadata(desk.folder / "run/model.safetensors")["card"]
    assert (card["mean"], card["std"]) == (MEAN, STD)
