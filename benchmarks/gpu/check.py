"""Every check that needs a GPU, in one call: parity, state, latency and cost of every way to run a step that is here.

    python -m benchmarks.gpu.check [--bundle model.bundle --model model.pt] [--device cuda|host] [--quick] [--out DIR]

Ways: TensorRT, TensorRT-RTX, ONNX Runtime's CUDA and TensorRT providers, each in every precision of the bundle, and
the PyTorch model captured in graphs, all of them through the runtime's slots and phases; beside them PyTorch's eager
step and the eager recomputation of the whole window. What cannot run here is "not run", with the reason. Without a
bundle and a model it makes both, with random weights, for a network of 207 sensors. ``--device host`` rehearses all of
it without a GPU. Writes gpu_check.{json,md} after every section, so that a run cut short keeps what it has.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.environment import gpu_environment
from benchmarks.gpu.findings import Feed, Inputs, latency, parity, state
from benchmarks.gpu.report import report
from benchmarks.harness.command import Command
from benchmarks.harness.page import write_page
from benchmarks.harness.workbench import ROOT
from runtime.backends.base import GPU_BACKENDS, ONNXRUNTIME, Backend, open_backend
from runtime.timing import environment, interleave, paired_ratio
from stunet_deploy.bundle import Bundle

FLAVOR_OF = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
SIZES = (207, 1_000, 3_000, 6_000, 13_000)


@dataclass(frozen=True)
class Effort:
    """How long to look: sensors and channels of the made network, intervals, seconds per measurement, sizes."""

    sensors: int = 207
    hidden: int = 96
    intervals: int = 1_300
    seconds: float = 5.0
    calls: int = 20_000
    rounds: int = 200
    sizes: tuple[int, ...] = SIZES
    budget_s: float = 540.0


QUICK = Effort(sensors=12, hidden=4, intervals=60, seconds=0.05, calls=40, rounds=5, sizes=(20, 40))


@dataclass
class Check:
    """What is checked, with what, and what was found so far."""

    device: str
    effort: Effort
    out: Path
    bundle: Bundle | None = None
    checkpoint: Any = None
    feed: Feed | None = None
    result: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def section(self, name: str, run: Callable[[], Any]) -> None:
        """Run a section, keep what it found or why it did not run, and write everything found so far."""
        print(f"{time.perf_counter() - self.began:6.1f} s  {name}", file=sys.stderr, flush=True)
        self.result[name] = attempt(run) if self.left_s > 0 else {"not_run": "the time budget was spent"}
        self.result["seconds"] = round(time.perf_counter() - self.began, 1)
        write_page(self.out, "gpu_check", self.result, report(self.result))

    @property
    def left_s(self) -> float:
        """Seconds left of the time budget."""
        return self.effort.budget_s - (time.perf_counter() - self.began)

    @property
    def torch_device(self) -> Any:
        """The device that PyTorch uses."""
        from benchmarks.gpu.torch_device import CPU, CUDA

        return CUDA if self.device == "cuda" else CPU

    @property
    def model(self) -> Any:
        """The PyTorch model, on its device."""
        if self.checkpoint is None:
            raise RuntimeError("no model: name the bundle's model.pt with --model")
        return self.checkpoint.model.to(self.torch_device)

    def latency(self, step: Callable[[Inputs], Any]) -> dict[str, Any]:
        """Time a way with this effort."""
        effort, gpu = self.effort, self.device == "cuda"
        return latency(step, self.stream, seconds=effort.seconds, calls=effort.calls, energy=gpu)

    @property
    def stream(self) -> Feed:
        """The inputs."""
        if self.feed is None:
            raise RuntimeError("neither a bundle nor a model")
        return self.feed


def attempt(run: Callable[[], Any]) -> Any:
    """Return what a call returns, or {"not_run": why not}: one way that fails must not cost the others."""
    try:
        return run()
    except (Exception, SystemExit) as error:  # whatever a library raises is the finding
        return {"not_run": " ".join(f"{type(error).__name__}: {error}".split())[:500]}


def ways(check: Check) -> Iterator[tuple[str, Callable[[], Backend]]]:
    """Yield the name of every way and what opens it; those that stand on the least come first."""
    bundle = check.bundle
    yield "torch graph", lambda: torch_backend(check)
    yield "torch graph tf32", lambda: torch_backend(check, tf32=True)
    if bundle is not None:
        yield ONNXRUNTIME, partial(open_backend, bundle)
        for backend in GPU_BACKENDS:
            for precision in bundle.manifest.precisions:
                yield f"{backend} {precision}", partial(gpu_backend, bundle, backend, precision)
    # Last, since a fault on the GPU would cost whatever comes after it: no other way here captures PyTorch like this.
    yield "torch graph, CudaDevice", lambda: torch_backend(check, cuda_device=True)


def gpu_backend(bundle: Bundle, backend: str, precision: str) -> Backend:
    """Open a GPU backend; where TensorRT is installed, build the engine first."""
    if backend in FLAVOR_OF:
        flavor = ["--flavor", FLAVOR_OF[backend]]
        command = [sys.executable, "-m", "stunet_deploy", "build", str(bundle.path), *flavor, "--precision", precision]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"stunet build: {done.stderr.strip()[-400:]}")
    return open_backend(bundle, backend, precision=precision)


def torch_backend(check: Check, *, cuda_device: bool = False, tf32: bool = False) -> Backend:
    """Open the PyTorch model through the runtime's slots and phases, on the runtime's device or on PyTorch's own."""
    import torch

    from benchmarks.gpu.torch_device import TorchDevice, TorchProgram
    from runtime.backends.gpu.backend import DeviceBackend
    from runtime.backends.gpu.cuda import CudaDevice
    from runtime.backends.gpu.driver import require_driver

    if cuda_device:
        require_driver()
    where, model = check.torch_device, check.model
    device = CudaDevice() if cuda_device else TorchDevice(where)
    program = TorchProgram(model, 1, where, device.stream, pooled=cuda_device)
    torch.backends.cuda.matmul.allow_tf32 = tf32  # what is captured keeps it
    try:
        return DeviceBackend("torch", model.contract, 1, device, program)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def check_way(check: Check, open_way: Callable[[], Backend]) -> dict[str, Any]:
    """Return everything about one way, and how many times faster than eager PyTorch it is in the same rounds."""
    begin = time.perf_counter()
    backend = open_way()
    opened_s = time.perf_counter() - begin
    try:
        found: dict[str, Any] = {"open_ms": round(1000 * opened_s, 1)}
        found["parity"] = attempt(lambda: parity(check.stream, backend))
        found["state"] = attempt(lambda: state(check.stream, backend))
        found["latency"] = attempt(lambda: check.latency(lambda one: backend.step(one)["forecast"].copy()))
        found["faster_than"] = attempt(lambda: faster_than_eager(check, backend))
        return found
    finally:
        backend.close()


def faster_than_eager(check: Check, backend: Backend) -> dict[str, Any]:
    """Return paired ratios: eager step and eager window over this way, timed in turn."""
    from benchmarks.gpu.torch_device import EagerStep, EagerWindow

    model, where = check.model, check.torch_device
    eager = {"eager step": EagerStep(model, where).step, "eager window": EagerWindow(model, where).step}
    clock = iter(range(10**9))

    def run(step: Callable[[Inputs], Any]) -> None:
        step(check.stream(next(clock)))

    steps = {"way": lambda one: backend.step(one)["forecast"].copy(), **eager}
    calls = {name: partial(run, step) for name, step in steps.items()}
    samples = interleave(calls, check.effort.rounds, warm_up=20)
    medians = {f"{name} median us": one.median_us for name, one in samples.items()}
    return {name: paired_ratio(samples[name], samples["way"]) for name in eager} | medians


def eager_latency(check: Check) -> dict[str, Any]:
    """Time PyTorch's eager step and eager window alone."""
    from benchmarks.gpu.torch_device import EagerStep, EagerWindow

    model, where = check.model, check.torch_device
    return {
        "step": check.latency(EagerStep(model, where).step),
        "window": check.latency(EagerWindow(model, where).step),
    }


def cost(check: Check) -> list[dict[str, Any]]:
    """Time an interval of ever larger networks, random weights: captured and eager step in PyTorch."""
    rows: list[dict[str, Any]] = []
    for sensors in check.effort.sizes:
        if check.left_s < 30 + sensors / 100 and rows:  # preparing the graph is what takes long
            rows.append({"sensors": sensors, "not_run": "the time budget was spent"})
            continue
        rows.append({"sensors": sensors, **attempt(partial(_cost_of, check, sensors))})
    return rows


def _cost_of(check: Check, sensors: int) -> dict[str, Any]:
    from benchmarks.gpu.torch_device import EagerStep
    from benchmarks.harness.networks import invented_checkpoint

    one = Check(check.device, check.effort, check.out, checkpoint=invented_checkpoint(sensors, check.effort.hidden, 24))
    reference = one.checkpoint.reference
    inputs = {
        "values": reference.values[:1],
        "observed": reference.observed[:1].astype(np.float32),
        "time_of_week": np.zeros((1, 1), np.float32),
    }
    backend = torch_backend(one)
    try:
        eager = EagerStep(one.model, one.torch_device)
        repeats = max(10, check.effort.rounds // 2)
        calls = {"graph": lambda: backend.step(inputs)["forecast"].copy(), "eager": lambda: eager.step(inputs)}
        samples = interleave(calls, repeats, warm_up=5)
    finally:
        backend.close()
    parameters = sum(p.numel() for p in one.checkpoint.model.parameters())
    return {
        "parameters": parameters,
        "state_bytes": backend.contract.state_bytes(),
        "graph_us": samples["graph"].median_us,
        "eager_us": samples["eager"].median_us,
        "faster": paired_ratio(samples["eager"], samples["graph"]),
    }


def prepare(check: Check, arguments: Namespace, folder: Path) -> dict[str, Any]:
    """Load or make model and bundle; a bundle is copied, so that engines built here stay out of it."""
    made = attempt(lambda: _checkpoint(check, arguments))
    found: dict[str, Any] = {"torch_model": made}
    if arguments.bundle is not None:
        shutil.copytree(arguments.bundle, folder / "model.bundle")
        check.bundle = Bundle.load(folder / "model.bundle")
    elif check.checkpoint is not None:
        found["export"] = attempt(lambda: _export(check, folder / "model.bundle"))
    if check.bundle is not None:
        manifest = check.bundle.manifest
        check.feed = Feed(check.bundle.golden(), manifest.timezone, max(manifest.tolerance))
        found |= {"bundle_id": manifest.bundle_id, "precisions": list(manifest.precisions), "config": manifest.config}
        contract = manifest.contract
    else:  # an export that failed must not cost the ways in PyTorch
        from export.golden import make_golden

        model = check.model
        golden = make_golden(check.checkpoint)
        check.feed = Feed(golden, check.checkpoint.site.timezone, 5e-5 * max(model.signal.std))
        contract = model.contract
    return found | {"sensors": check.feed.golden.values.shape[1], "slots": contract.slots}


def _export(check: Check, path: Path) -> str:
    from export.bundle import export_bundle

    check.bundle = export_bundle(check.checkpoint, path)
    return "exported"


def _checkpoint(check: Check, arguments: Namespace) -> str:
    if arguments.model is not None:
        from stunet_deploy.checkpoint import Checkpoint

        check.checkpoint = Checkpoint.load(arguments.model)
        return "loaded"
    if arguments.bundle is not None:
        return "none: name the bundle's model.pt with --model"
    from benchmarks.harness.networks import invented_checkpoint

    check.checkpoint = invented_checkpoint(check.effort.sensors, check.effort.hidden, check.effort.intervals)
    return "random weights"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every section and write the results."""
    command = Command("benchmarks.gpu.check", __doc__, page="gpu_check")
    command.option("--bundle", None, "bundle to check; default: one is exported from the model", kind=Path)
    command.option("--model", None, "model.pt of the bundle; default: random weights, 207 sensors", kind=Path)
    command.option("--device", "cuda", "host rehearses without a GPU", choices=("cuda", "host"))
    command.option("--seconds", Effort.budget_s, "stop starting sections after this long")
    options = command.parse(arguments)
    effort = replace(QUICK if options.quick else Effort(), budget_s=options.seconds)
    check = Check(options.device, effort, options.out)
    check.result |= {"command": options.command, "device": options.device}
    check.section("environment", lambda: environment() | {"gpu": gpu_environment()})
    with tempfile.TemporaryDirectory() as folder:
        check.section("model", lambda: prepare(check, options, Path(folder)))
        if check.device == "cuda":
            from benchmarks.gpu.delay_lines import delay_lines

            check.section("delay lines by copies", lambda: delay_lines(steps=1_000))
        check.section("eager", lambda: eager_latency(check))
        for name, open_way in ways(check):
            check.section(f"way: {name}", partial(check_way, check, open_way))
        check.section("cost", lambda: cost(check))
    print(report(check.result))


if __name__ == "__main__":
    main()
