"""A minimal service with FastAPI, Pillow and torch, with which `carbench serve` is compared.

benchmarks/serving.py starts it, with the exported folder in PLAIN_MODEL.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import timm
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from timm.data import create_transform, resolve_data_config

FOLDER = Path(os.environ["PLAIN_MODEL"])
if threads := os.environ.get("PLAIN_THREADS"):
    torch.set_num_threads(int(threads))
labels = json.loads((FOLDER / "labels.json").read_text())
model = timm.create_model(f"local-dir:{FOLDER}", pretrained=True).eval()
transform = create_transform(**resolve_data_config({}, model=model))
app = FastAPI()


@app.post("/predict")
def predict(image: UploadFile) -> dict[str, list[dict[str, object]]]:
    """Return the three most probable classes."""
    opened = Image.open(io.BytesIO(image.file.read())).convert("RGB")
    with torch.inference_mode():
        probabilities = model(transform(opened)[None]).softmax(dim=1)[0]
    shares, places = probabilities.topk(3)
    pairs = zip(places.tolist(), shares.tolist(), strict=True)
    return {"top": [{"class": labels[place], "probability": share} for place, share in pairs]}
