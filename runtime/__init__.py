"""From a bundle to forecasts, one interval at a time; never imports torch."""

import os

# The official builds of ONNX Runtime report to their maker, and keep a device's number in the user's folder, unless
# this is set before they are imported. A user who wants the report sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
