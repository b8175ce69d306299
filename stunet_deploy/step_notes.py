"""What a step graph says about itself, read from its file without ONNX."""

from __future__ import annotations

from stunet_deploy.onnx_graph.messages import KEYS, NOTES
from stunet_deploy.onnx_graph.wire import MalformedError, read_message


def step_notes(model: bytes) -> dict[str, str]:
    """Return the metadata of an ONNX model whose keys begin with ``stunet.``; nothing where it has none or is no model.

    Args:
        model: content of the file.
    """
    try:
        entries = read_message(NOTES, model).get("metadata_props", [])
    except MalformedError:
        return {}
    return {entry["key"]: entry.get("value", "") for entry in entries if entry.get("key", "").startswith(KEYS)}
