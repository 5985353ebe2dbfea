"""ONNX Runtime, silenced: import it from here."""

import os

# It would send usage data to Microsoft, and keep an identifier of the machine in ~/.cache. The
# variable is read when it is loaded. Set it to 0 to send them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as onnxruntime
