"""Define locust's users: each sends images one after the other and checks the responses.

`make load` runs it through benchmarks/load.py; on its own: `locust -f benchmarks/locustfile.py`.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from locust import FastHttpUser, task

from carbench.data.images.formats import SUFFIXES

IMAGES = [
    path.read_bytes()
    for path in sorted(Path(os.environ.get("IMAGES", "results/data/images")).rglob("*"))
    if path.suffix in SUFFIXES
]


class Visitor(FastHttpUser):
    """A user who sends images without pauses."""

    @task
    def predict(self) -> None:
        """Send an image; a response without three classes is a failure."""
        files = {"image": ("car.jpg", random.choice(IMAGES), "image/jpeg")}
        with self.client.post("/predict", files=files, catch_response=True) as answer:
            if answer.status_code == 200 and len(answer.json()["top"]) != 3:
                answer.failure("not three classes")
