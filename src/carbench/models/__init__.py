"""timm models: creation, pinned weights, model files, devices and ONNX export."""

from carbench.models.compiler_stub import install_stubs

# Before any import of timm.
install_stubs()
