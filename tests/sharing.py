"""What the workers of a run make once, and step graphs among it: exporting one takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    import onnx

    from stunet_deploy.models.forecaster import Forecaster


@dataclass(frozen=True)
class Shared:
    """A folder of this run in which the worker that first needs something makes it for all."""

    root: Path

    def folder(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the folder of a name; ``make`` fills it once. Tests must not change its files."""
        path, part = self.root / name, self.root / f"{name}.part"
        with FileLock(self.root / f"{name}.lock"):
            if not path.exists():
                part.mkdir()
                make(part)
                part.rename(path)
        return path

    def step(self, model: Forecaster, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Return what ``export_step`` makes of a model: equal models, weights included, are exported once."""
        import onnx

        from export.step_graph import export_step

        def make(folder: Path) -> None:
            onnx.save(export_step(model, {}), folder / "step.onnx")

        proto = onnx.load(self.folder(f"step-{content_key(model)}", make) / "step.onnx")
        onnx.helper.set_model_props(proto, dict(sorted(metadata.items())))
        return proto


def content_key(model: Forecaster) -> str:
    """Return a name of everything that a step graph is made of."""
    graph = model.stored_graph()
    described = (model.family, model.config, model.signal, model.contract, graph if isinstance(graph, str) else "")
    key = hashlib.sha256(repr(described).encode())
    tensors = {**({} if isinstance(graph, str) else graph), **dict(model.named_parameters())}
    for name, tensor in {**tensors, **dict(model.named_buffers())}.items():
        key.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        key.update(tensor.detach().numpy().tobytes())
    return key.hexdigest()[:24]
