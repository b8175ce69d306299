from __future__ import annotations

import sys

import pytest

from runtime.backends.gpu.flavor import FLAVORS, find_flavor
from stunet_deploy.errors import BackendError, ConfigError


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a module of some content under a flavour's name, and blocks the others."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in FLAVORS.values():
        monkeypatch.setitem(sys.modules, module, None)

    def install(name, content):
        (tmp_path / f"{FLAVORS[name]}.py").write_text(content)
        monkeypatch.delitem(sys.modules, FLAVORS[name])

    return install


def test_the_first_that_is_installed_is_taken(install):
    install("tensorrt-rtx", "__version__ = '1.7'")
    install("tensorrt-lean", "__version__ = '10.3.0'")
    found = find_flavor()
    assert (found.name, found.version, found.module.__name__) == ("tensorrt-rtx", "1.7", "tensorrt_rtx")
    assert find_flavor("tensorrt", "tensorrt-lean").name == "tensorrt-lean"


def test_none_installed_names_what_installs_each(install):
    with pytest.raises(BackendError) as raised:
        find_flavor("tensorrt", "tensorrt-rtx")
    assert raised.value.came == "no Python module tensorrt or tensorrt_rtx"
    assert "python3-libnvinfer" in raised.value.action
    assert "stunet-deploy[rtx]" in raised.value.action


@pytest.mark.parametrize(
    "content",
    [
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
        "raise FileNotFoundError('libnvinfer.so.10')",
        "import tensorrt_libs_that_are_not_there",
    ],
)
def test_a_missing_library_is_told_from_a_missing_module(install, content):
    install("tensorrt", content)
    install("tensorrt-rtx", "__version__ = '1.7'")  # not taken in its place
    with pytest.raises(BackendError, match="module tensorrt cannot be loaded") as raised:
        find_flavor()
    assert "install it again" in raised.value.action


def test_an_unknown_flavor_is_refused():
    with pytest.raises(ConfigError, match="'vanilla'"):
        find_flavor("vanilla")
