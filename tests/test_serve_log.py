"""The prediction log: deleted, moved or full files, retention, and its readers."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from attacks import encoded
from bundles import sha256
from carbench.core.errors import CarbenchError
from carbench.data.images.statistics import IMAGE_STATISTICS
from carbench.deploy.bundle.exported_model import read_model
from carbench.deploy.serve import recent_predictions
from carbench.deploy.serve.prediction_log import PredictionLog, Record, new_id
from carbench.deploy.serve.recent_predictions import read_recent_predictions
from carbench.deploy.serve.retention import Retention
from carbench.deploy.serve.settings import Settings
from service_process import serve_in_thread
from test_serve import IMAGE, post

ORDINARY = encoded(IMAGE, "JPEG")


def record(sha: str = "a", when: float | None = None) -> Record:
    when = time.time() if when is None else when
    return Record(
        id=f"{int(when * 1e9):016x}{new_id()[-8:]}",
        time=when,
        model="v1",
        sha256=sha,
        top=[("red", 1.0)],
        predicted=0,
        confidence=0.9,
        statistics=dict.fromkeys(IMAGE_STATISTICS, 0.5),
        embedding=np.zeros(3, np.float32).tobytes(),
        image=None,
    )


def ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT id FROM predictions")}


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name(f"old-{time.time_ns()}.sqlite"))


def replace_by_another(path: Path) -> None:
    other = path.with_name("other.sqlite")
    PredictionLog(other).close()
    other.rename(path)


WRITER = """
import sys
from pathlib import Path
from test_serve_log import write
write(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def write(path: Path, acknowledged: Path) -> None:
    """Record from two threads until stopped; write down when each record was acknowledged."""
    log = PredictionLog(path)
    ended = acknowledged.with_name("ended")

    def record_all() -> list[str]:
        noted = []
        while not ended.exists():
            one = record()
            log.append([one])
            noted.append(f"{time.monotonic()} {one.id}\n")
        return noted

    with ThreadPoolExecutor(2) as threads:
        writing = [threads.submit(record_all) for _ in range(2)]
        acknowledged.write_text("".join(line for each in writing for line in each.result()))
    log.close()


@pytest.mark.slow
@pytest.mark.parametrize("change", [delete, delete_all, move, replace_by_another])
def test_the_log_can_be_deleted_or_moved_while_workers_write(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Later records are in the new file, and no file is damaged."""
    folder = tmp_path / "log"
    folder.mkdir()
    path, noted = folder / "log.sqlite", [tmp_path / f"noted-{number}" for number in range(2)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, file], env=environment)
        for file in noted
    ]
    deadline = time.monotonic() + 60
    while not (path.exists() and path.with_name("log.sqlite-wal").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for _ in range(4):
        time.sleep(0.2)
        change(path)
        changed = time.monotonic()
    time.sleep(0.5)
    (tmp_path / "ended").touch()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    # A record that was acknowledged after the last change was written to the new file.
    lines = [line.split() for file in noted for line in file.read_text().splitlines()]
    late = {identity for when, identity in lines if float(when) > changed + 0.1}
    assert late and late <= ids(path)


def fill(log: PredictionLog) -> None:
    """Simulate a full disk by limiting the number of pages, which gives the same SQLite error."""
    connection = log._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()


def test_a_full_disk_is_reported_and_recovered_from(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.sqlite")
    fill(log)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        log.append(record() for _ in range(1000))
    assert not ids(tmp_path / "log.sqlite")  # all or none
    log._connection.execute("PRAGMA max_page_count = 100000").fetchone()  # type: ignore[union-attr]
    log.append([record()])  # the log recovers by itself
    assert len(ids(tmp_path / "log.sqlite")) == 1


@pytest.mark.slow
def test_a_service_that_cannot_record_is_not_ready(
    deployed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("carbench.deploy.serve.service.LOG_CHECK_SECONDS", 0.0)
    commit, full = PredictionLog._commit, [False]

    def commit_if_there_is_space(self: PredictionLog, *arguments: Any) -> None:
        if full[0]:
            with closing(sqlite3.connect(":memory:")) as small:
                small.execute("PRAGMA max_page_count = 1").fetchone()
                small.execute("CREATE TABLE full (x)")
        commit(self, *arguments)

    monkeypatch.setattr(PredictionLog, "_commit", commit_if_there_is_space)
    export = deployed / "results/export"
    settings = Settings(model=export, log=tmp_path / "log.sqlite")
    with serve_in_thread(settings) as url:
        full[0] = True
        with caplog.at_level(logging.ERROR, "carbench"):
            answer = post(url, ORDINARY)
            broken = httpx.get(f"{url}/readyz")
        for path in ("/livez", "/metrics", "/v1/model"):  # do not depend on the log
            assert httpx.get(url + path).status_code == 200
        full[0] = False
        assert httpx.get(f"{url}/readyz").status_code == 200
        assert post(url, ORDINARY).status_code == 200
    for refused in (answer, broken):
        assert refused.status_code == 503
        assert "the disk is full" in refused.json()["detail"]
    assert "log.sqlite: found that predictions cannot be recorded" in caplog.text
    assert len(ids(settings.log)) == 1


def test_the_oldest_rows_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = PredictionLog(path)
    now = time.time()
    log.append(record(when=now - 86_400 * (10 - number / 500)) for number in range(5000))
    newest = sorted(ids(path))
    log._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    size = path.stat().st_size
    assert Retention(path, 0, 0).enforce() == 0
    assert Retention(path, 3500, 0).enforce() == 1500
    assert sorted(ids(path)) == newest[1500:]
    assert Retention(path, 0, 2.5).enforce() == pytest.approx(2250, abs=2)
    log._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    assert path.stat().st_size < 0.5 * size
    log.append([record()])
    log.close()
    assert Retention(path, 10, 1).enforce() > 0


def test_the_log_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.sqlite")
    log.append([record()])
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("log.sqlite*")}
    assert modes == {0o600}


def test_recent_predictions_are_read_with_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.sqlite"
    log = PredictionLog(path)
    now = time.time()
    log.append(record(str(number), now - 3600 * number) for number in range(100))
    log.append(replace(record("again"), id=new_id()) for _ in range(100))
    assert (
        len(read_recent_predictions(path, "v1", None, None)) == 101
    )  # a file sent again counts once
    assert len(read_recent_predictions(path, "v1", 10, None)) == 10
    assert (
        len(read_recent_predictions(path, "v1", None, datetime.now(UTC) - timedelta(hours=4.5)))
        == 6
    )
    assert len(read_recent_predictions(path, "another", None, None)) == 0
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {recent_predictions.QUERY}", ("v1", 0, 9)
        ).fetchall()
    assert len(plan) == 1 and "USING INDEX predictions_by_time" in plan[0][3]
    monkeypatch.setattr(recent_predictions, "MAX_ROWS", 50)
    assert len(read_recent_predictions(path, "v1", None, None)) <= 50
    with pytest.raises(CarbenchError, match="found nothing"):
        read_recent_predictions(tmp_path / "nowhere", "v1", None, None)


@pytest.mark.slow
def test_images_are_stored_only_on_request(deployed: Path, tmp_path: Path) -> None:
    export = deployed / "results/export"
    for keep in (False, True):
        log = tmp_path / f"{keep}.sqlite"
        with serve_in_thread(Settings(model=export, log=log, keep_images=keep)) as url:
            for size in (20, 30, 30):
                content = encoded(IMAGE.resize((size, size)), "PNG")
                assert post(url, content).status_code == 200
        with closing(sqlite3.connect(log)) as connection:
            images = [row[0] for row in connection.execute("SELECT image FROM predictions")]
        assert len(images) == 3
        assert (images[-1] == content) == keep
        assert keep or images == [None] * 3
        assert len(read_recent_predictions(log, read_model(export).version, None, None)) == 2


@pytest.mark.slow
def test_metrics_work_without_the_log_and_drift_detection(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(*_: object) -> None:
        compared.append(1)
        time.sleep(1)
        raise CarbenchError("x", found="a test that fails", expected="none", fix="none")

    monkeypatch.setattr("carbench.deploy.serve.drift_monitor.detect_drift", compare)
    settings = Settings(
        model=deployed / "results/export", log=tmp_path / "log.sqlite", monitor_interval=0.2
    )
    with serve_in_thread(settings) as url:
        assert post(url, ORDINARY).status_code == 200
        deadline = time.monotonic() + 10
        while not compared and time.monotonic() < deadline:
            time.sleep(0.05)
        assert compared
        settings.log.write_bytes(b"no database")
        answer = httpx.get(f"{url}/metrics")
        assert answer.status_code == 200
        assert f'version="{read_model(settings.model).version}"' in answer.text
        assert "carbench_drift" not in answer.text
        broken = httpx.get(f"{url}/monitoring?format=json", timeout=30)
        assert broken.status_code == 503
        assert "Traceback" not in broken.text


@pytest.mark.slow
def test_workers_share_the_drift_result(deployed: Path, tmp_path: Path) -> None:
    """The result of one worker is visible in all others, as gauges of the current model."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    export = deployed / "results/export"
    settings = Settings(model=export, log=tmp_path / "log.sqlite", runtime_folder=runtime)
    with serve_in_thread(settings) as first, serve_in_thread(settings) as second:
        for size in range(20, 55):
            post(first, encoded(IMAGE.resize((size, size)), "PNG"))
        assert "carbench_drift" not in httpx.get(f"{second}/metrics").text
        report = httpx.get(f"{first}/monitoring?format=json", timeout=30).json()
        assert report["verdict"] == "drift" and report["images"] == 35
        text = httpx.get(f"{second}/metrics").text
        assert 'carbench_drift_effect{family="embedding",test="embedding"}' in text
        assert "carbench_drift_images 35.0" in text
    assert sha256(export / "model.onnx") in "".join(path.name for path in runtime.iterdir())
