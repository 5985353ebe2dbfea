"""timm's models: made, started from pinned weights, saved and read, placed on a device."""

from carbench.models.without_compiler import stand_in

# Before anything here imports timm.
stand_in()
