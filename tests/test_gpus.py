"""Which job gets which GPU. There is none here: CUDA and its driver have stand-ins."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import torch

from carbench.core.errors import CarbenchError
from carbench.models import gpu_lease
from carbench.models.devices import set_up_device
from carbench.models.gpu_lease import MAX_JOBS_VARIABLE, lease_gpu
from carbench.models.gpu_names import visible_gpus
from carbench.params.compute import ComputeSection

A, B, C, D = (
    "8932f937-d72c-4106-c12f-20bd9faed9f6",
    "8932aaaa-d72c-4106-c12f-20bd9faed9f6",
    "5f0c1d2e-0000-4106-c12f-20bd9faed9f6",
    "77777777-0000-4106-c12f-20bd9faed9f6",
)
MACHINE = [A, B, C, D]
# Two slices of one GPU, each with the name of newer drivers and of older ones.
SLICES = {
    "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f": "c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
    f"MIG-GPU-{A}/1/0": "c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
    "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb": "cba663e8-9bed-5b25-b243-5985ef7c9beb",
}
M1, M1_OLD, M2 = SLICES
WAITS = "waits"
SLURM = {"SLURM_JOB_ID": "7"}
FOUR_JOBS = {MAX_JOBS_VARIABLE: "4"}


def visible(selected: str | None) -> list[str]:
    """What a process sees of the machine: torch's own parser, with these GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        if selected is None:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            patch.setenv("CUDA_VISIBLE_DEVICES", selected)
        parsed: list[Any] = torch.cuda._parse_visible_devices()
    if parsed and parsed[0] in SLICES:
        return [SLICES[parsed[0]]]  # CUDA shows one slice to a process
    if parsed and isinstance(parsed[0], str):
        parsed = torch.cuda._transform_uuid_to_ordinals(parsed, [f"GPU-{gpu}" for gpu in MACHINE])
    return [MACHINE[index] for index in takewhile(lambda index: index < len(MACHINE), parsed)]


def gpu(selected: str | None, **variables: str) -> tuple[str | None, dict[str, str]]:
    """A job's CUDA_VISIBLE_DEVICES, and other variables of its environment."""
    return selected, variables


@pytest.fixture
def lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | None, dict[str, str]], str]:
    """Lease a GPU for a job that runs until the end of the test; return it, or WAITS."""

    class WaitingError(Exception):
        pass

    def wait(_: str) -> None:
        raise WaitingError

    def leased(selected: str | None, variables: dict[str, str]) -> str:
        with pytest.MonkeyPatch.context() as patch:
            for name in (*gpu_lease.SCHEDULER_VARIABLES, MAX_JOBS_VARIABLE):
                patch.delenv(name, raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            gpus = visible(selected)
            try:
                return gpus[lease_gpu(gpus, wait)]
            except WaitingError:
                return WAITS

    monkeypatch.setattr(gpu_lease.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return leased


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        # several GPUs, all visible or some
        ([gpu(None)] * 5, [A, B, C, D, WAITS]),
        ([gpu("2,1"), gpu("1,2"), gpu("1")], [C, B, WAITS]),
        ([gpu("0,9,1"), gpu("0,-1,1")], [A, WAITS]),
        # one GPU in several spellings
        ([gpu("0"), gpu(f"GPU-{A}"), gpu("GPU-8932f"), gpu("0,1")], [A, WAITS, WAITS, B]),
        ([gpu("GPU-8932f,GPU-8932a"), gpu("1,0"), gpu(None)], [A, B, C]),
        # several jobs on one GPU
        ([gpu("3", **FOUR_JOBS)] * 5, [D, D, D, D, WAITS]),
        ([gpu("3,1", **FOUR_JOBS)] * 5, [D, B, D, B, WAITS]),
        ([gpu("3", **FOUR_JOBS), gpu("3")], [D, WAITS]),
        # MIG
        ([gpu(M1), gpu(M2), gpu(M1_OLD)], [SLICES[M1], SLICES[M2], WAITS]),
        ([gpu(f"{M1},{M2}"), gpu(M1), gpu(M2)], [SLICES[M1], WAITS, SLICES[M2]]),
        # a scheduler's jobs: one GPU is taken as it is, of several each takes one
        ([gpu("3", **SLURM), gpu(f"GPU-{D}", **SLURM)], [D, D]),
        ([gpu(None), gpu("0", SGE_TASK_ID="undefined")], [A, A]),
        ([gpu("0,1", **SLURM), gpu("0,1", **SLURM), gpu("0,1", **SLURM)], [A, B, WAITS]),
    ],
)
def test_no_gpu_is_leased_twice_however_it_is_selected(
    jobs: list[tuple[str | None, dict[str, str]]],
    expected: list[str],
    lease: Callable[[str | None, dict[str, str]], str],
) -> None:
    assert [lease(selected, variables) for selected, variables in jobs] == expected


@pytest.mark.parametrize("selected", ["", "-1", "NoDevFiles", "9", "0,0", "GPU-8932", "GPU-zz"])
def test_an_environment_without_a_gpu_is_named(
    selected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visible(selected) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", selected)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CarbenchError, match=f"sees no GPU .CUDA_VISIBLE_DEVICES='{selected}'"):
        set_up_device(ComputeSection(device="cuda", threads=1, batch_size=1), "train")


def test_hosts_that_share_a_clone_have_leases_of_their_own(
    lease: Callable[[str | None, dict[str, str]], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [lease("0", {}), lease("0", {})] == [A, WAITS]
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(socket, "gethostname", lambda: "other")
    monkeypatch.setattr(gpu_lease.tempfile, "gettempdir", lambda: str(tmp_path / "other"))
    assert lease("0", {}) == A


def test_other_users_can_lease_too(
    lease: Callable[[str | None, dict[str, str]], str], tmp_path: Path
) -> None:
    umask = os.umask(0o077)
    try:
        lease("0", {})
    finally:
        os.umask(umask)
    shared = tmp_path / "carbench-gpus"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert [stat.S_IMODE(file.stat().st_mode) for file in shared.iterdir()] == [0o666]


JOB = """
import time
from carbench.models.gpu_lease import lease_gpu
print(lease_gpu(["GPU-a", "GPU-b"], lambda sentence: print(sentence, flush=True)), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("slots", "shared_tmp"), [(2, True), (4, True), (2, False)])
def test_each_job_leases_a_slot_and_a_killed_job_releases_it(
    slots: int, shared_tmp: bool, tmp_path: Path
) -> None:
    """Also if each job has a temporary folder of its own, as on many clusters."""
    env = os.environ | {MAX_JOBS_VARIABLE: str(slots)}
    jobs: list[subprocess.Popen[str]] = []
    outputs = []
    try:
        for number in range(slots + 1):
            folder = tmp_path / ("tmp" if shared_tmp else f"tmp-{number}")
            folder.mkdir(exist_ok=True)
            job = subprocess.Popen(
                [sys.executable, "-c", JOB],
                env=env | {"TMPDIR": str(folder)},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                text=True,
            )
            jobs.append(job)
            assert job.stdout
            outputs.append(job.stdout.readline().strip())
        waiting = "waiting for another job to release a GPU (GPU-a, GPU-b)"
        assert outputs == [*["0", "1", "0", "1"][:slots], waiting]
        jobs[1].kill()
        assert jobs[-1].stdout
        assert jobs[-1].stdout.readline().strip() == "1"
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


class Driver:
    """Stand-in for NVIDIA's driver, whose visible devices are GPUs 3 and 1."""

    def cuDeviceGet(self, device: Any, index: ctypes.c_int) -> int:  # noqa: N802
        device._obj.value = [3, 1][index.value]
        return 0

    def cuDeviceGetUuid_v2(self, found: Any, device: ctypes.c_int) -> int:  # noqa: N802
        found._obj[:] = UUID(MACHINE[device.value]).bytes
        return 0


@pytest.mark.parametrize("has_driver", [True, False])
def test_gpus_are_named_by_their_uuid(has_driver: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the count after CUDA's initialisation: before it, torch counts GPUs without CUDA."""
    initialised = []

    def load(_: str) -> Driver:
        if has_driver:
            return Driver()
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(torch.cuda, "init", lambda: initialised.append(True))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if initialised else 4)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(uuid=[D, B][index]),
    )
    assert visible_gpus() == [D, B]
