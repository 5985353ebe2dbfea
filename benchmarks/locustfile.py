"""Users of the service for locust: each sends one image after the other and checks the answer.

`make load` runs it by benchmarks/load.py; alone: `locust -f benchmarks/locustfile.py`.
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
    """Somebody who wants to know what an image shows, and at once the next."""

    @task
    def predict(self) -> None:
        """Send an image; an answer without three classes is a failure."""
        files = {"image": ("car.jpg", random.choice(IMAGES), "image/jpeg")}
        with self.client.post("/predict", files=files, catch_response=True) as answer:
            if answer.status_code == 200 and len(answer.json()["top"]) != 3:
                answer.failure("not three classes")
