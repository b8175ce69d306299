"""The three flavours of TensorRT: found by name, imported only here, an absent one named with what installs it.

Code that calls TensorRT takes a :class:`Flavor` and begins with ``trt = flavor.module``. A test checks every call that
is made through that name, and through objects made with it, against the bindings of all supported versions; parameters
that are such objects are annotated with their class, such as ``trt.ICudaEngine``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from stunet_deploy.errors import BackendError, ConfigError

FULL, RTX, LEAN = "tensorrt", "tensorrt-rtx", "tensorrt-lean"
#: Every flavour by name with the module that holds it, in the order in which ``auto`` looks for one.
FLAVORS = {FULL: "tensorrt", RTX: "tensorrt_rtx", LEAN: "tensorrt_lean"}
#: The flavours that can build an engine; the lean one only runs what the full one built.
BUILDERS = (FULL, RTX)
AUTO = "auto"

_INSTALL = {
    FULL: "on a Jetson install JetPack's package python3-libnvinfer, elsewhere: pip install 'stunet-deploy[tensorrt]'",
    RTX: "pip install 'stunet-deploy[rtx]'",
    LEAN: "pip install tensorrt-lean, in the version that the engine was built with or a later one",
}


@dataclass(frozen=True)
class Flavor:
    """A TensorRT that is installed here.

    Attributes:
        name: ``tensorrt``, ``tensorrt-rtx`` or ``tensorrt-lean``.
        module: its Python module.
        version: its version, for instance ``10.3.0`` or ``1.7.1.116``.
    """

    name: str
    module: ModuleType
    version: str


def find_flavor(*names: str) -> Flavor:
    """Import the first flavour that is installed.

    Args:
        names: keys of :data:`FLAVORS` in order of preference; none, or ``auto``, stands for all of them.

    Raises:
        ConfigError: if a name is unknown.
        BackendError: if none is installed, or the first that is cannot load its library.
    """
    wanted = tuple(FLAVORS) if not names or AUTO in names else names
    for name in wanted:
        if name not in FLAVORS:
            known = ", ".join((AUTO, *FLAVORS))
            raise ConfigError(f"TensorRT flavour {name!r}", f"one of {known}", "choose one of these")
    for name in wanted:
        try:
            module = importlib.import_module(FLAVORS[name])
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != FLAVORS[name]:
                raise _broken(name, error) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise _broken(name, error) from error
        else:
            return Flavor(name, module, str(module.__version__))
    raise BackendError(
        f"no Python module {' or '.join(FLAVORS[name] for name in wanted)}",
        "TensorRT installed for this Python",
        "; or ".join(_INSTALL[name] for name in wanted),
    )


def _broken(name: str, error: Exception) -> BackendError:
    """Say that a flavour is installed in part: its Python module without the library it binds."""
    return BackendError(
        f"the Python module {FLAVORS[name]} cannot be loaded ({error})",
        f"{name} with its libraries, of one version",
        f"install it again: {_INSTALL[name]}",
    )
