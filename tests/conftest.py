"""What every test runs under: shapes checked, repeatable examples, one thread, and named reasons to skip."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from jaxtyping import install_import_hook

from tests.paths import DATA
from tests.shapes import unchecked
from tests.sharing import Shared

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from stunet_deploy.config import Signal, STUNetConfig
    from stunet_deploy.contract import Lines
    from stunet_deploy.models.stunet.model import STUNet
    from stunet_deploy.testing import Arrays, ForwardFunction, StepFunction

# Set before anything imports torch or numpy, and inherited by subprocesses: the test workers fill the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Only modules imported from here on are checked; the hook must come before the first test module.
install_import_hook(
    ["stunet_deploy.models", "training.data", "training.torch_predictor", "training.objective", "training.loop"],
    "beartype.beartype",
)

hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    # A busy machine draws slowly; what a fixture holds is made for a test, or not changed by it.
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("repeatable")


def has_gpu() -> bool:
    """Whether the NVIDIA driver is there and finds a device; asked without any framework."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return driver.cuInit(0) == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that lacks its GPU or system package; with STUNET_NO_SKIP=1 a missing package fails it."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("no NVIDIA GPU")
    for marker in item.iter_markers("needs_system_package"):
        (command,) = marker.args
        if shutil.which(command) is None:
            reason = f"the command {command} is not installed"
            if os.environ.get("STUNET_NO_SKIP") == "1":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: STUNET_DATA, or shared/data beside the repository."""
    if not DATA.is_dir():
        pytest.skip("no folder of real data sets: set STUNET_DATA to one")
    return DATA


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """Check no shapes in a test that trains or steps for long: the check makes that five times as long."""
    with unchecked():
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """What the workers of this run make once."""
    folder = tmp_path_factory.getbasetemp()
    # Under pytest-xdist every worker has a folder of its own in the run's.
    return Shared(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def exported_once(shared: Shared) -> Iterator[None]:
    """Let ``export_bundle`` take a step graph that was exported before, in this run, of the same model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.bundle.export_step", shared.step)
        yield


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a library with the driver's name: LD_LIBRARY_PATH puts it first. Mark its tests to need gcc."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    folder = tmp_path_factory.mktemp("driver")
    source, name = Path(__file__).with_name("driver.c"), "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source], check=True)
    return folder


@pytest.fixture(scope="session")
def build_model() -> Callable[..., STUNet]:
    """Make an ST-UNet of random weights, its head included: an untrained one forecasts persistence."""
    import torch

    from stunet_deploy.config import Signal
    from stunet_deploy.graph.hierarchy import GraphHierarchy
    from stunet_deploy.models.stunet.model import STUNet

    def build(
        config: STUNetConfig,
        adjacency: ArrayLike,
        seed: int = 0,
        signal: Signal | None = None,
        profile: torch.Tensor | None = None,
    ) -> STUNet:
        graph = GraphHierarchy.build(
            adjacency,
            pool_levels=[pool for pool, _ in config.scales],
            chebyshev_order=config.chebyshev_order,
            partition=config.partition,
            symmetrise=config.symmetrise,
            basis=config.basis,
        )
        speed = Signal(("speed",), ("speed",), mean=(52.0,), std=(12.5,), low=(0.0,), high=(84.0,))
        model = STUNet(config, graph, signal or speed, profile).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                width = parameter.shape[-2] if parameter.ndim > 1 else 4
                parameter += torch.randn(parameter.shape, generator=generator) / width**0.5
            for statistic in (model.sensor_mean, model.static):
                if statistic is not None:
                    statistic.add_(torch.randn(statistic.shape, generator=generator))
            if model.scale is not None:
                model.scale.mul_(torch.rand(model.scale.shape, generator=generator) + 0.5)
        return model

    return build


@pytest.fixture(scope="session")
def as_numpy() -> Callable[[STUNet], tuple[StepFunction, ForwardFunction]]:
    """See a torch model as the step and the forward that stunet_deploy.testing checks."""
    import torch

    from stunet_deploy.contract import read_taps
    from stunet_deploy.models.forecaster import StepInputs

    def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def arrays(tensors: Mapping[str, torch.Tensor]) -> Arrays:
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def adapt(model: STUNet) -> tuple[StepFunction, ForwardFunction]:
        @torch.no_grad()
        def step(inputs: Arrays, lines: Lines) -> tuple[Arrays, Arrays]:
            state = tensors(dict(read_taps(model.contract, lines)))
            outputs, next_state = model.step(StepInputs(**tensors(inputs)), state)
            return arrays(outputs._asdict()), arrays(next_state)

        @torch.no_grad()
        def forward(inputs: Arrays, lines: Lines) -> tuple[Arrays, Lines]:
            forecast, final = model(StepInputs(**tensors(inputs)), tensors(lines))
            return {"forecast": forecast.numpy()}, arrays(final)

        return step, forward

    return adapt
