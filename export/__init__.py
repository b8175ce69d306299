"""From a checkpoint to a verified bundle."""

import runtime  # noqa: F401  # first of all: it keeps ONNX Runtime from reporting to its maker
