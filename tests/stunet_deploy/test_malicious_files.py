"""Files that would run code in a careless reader are refused, and run nothing.

Every payload makes a file. Each test ends by letting an unrestricted reader run it, to prove that it is real.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import StunetError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series

h5py = pytest.importorskip("h5py")

SERIES_KEYS = (
    *("values", "scale", "observed", "timestamps", "sensor_ids", "features", "units", "timezone", "interval_s"),
)


class Call:
    """Is pickled as a call, which the reader of the pickle makes."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def source(proof: Path) -> str:
    return f"open({str(proof)!r}, 'w').close()"


def exec_of_numpy(proof: Path) -> Call:
    from numpy.testing._private.utils import runstring

    return Call(runstring, source(proof), {})


PAYLOADS: dict[str, Callable[[Path], object]] = {
    "os.system": lambda proof: Call(os.system, f"touch {proof}"),
    "os.mkdir": lambda proof: Call(os.mkdir, str(proof)),
    "builtins.eval": lambda proof: Call(eval, source(proof)),
    "builtins.exec": lambda proof: Call(exec, source(proof)),
    "subprocess": lambda proof: Call(subprocess.check_call, ["touch", str(proof)]),
    "an exec within numpy": exec_of_numpy,
    "an element of an array": lambda proof: np.array([Call(os.mkdir, str(proof)), None], object),
    "the type of an array": lambda proof: Call(np.ndarray, (1,), Call(eval, f"{source(proof)} or 'f8'")),
    "a key of a dict": lambda proof: {Call(os.system, f"touch {proof}"): 1},
    "a call before the end": lambda proof: [["11"], {"11": 0}, np.zeros((1, 1)), Call(os.mkdir, str(proof))],
}


def array_of(content: object) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = content
    return array


def npy(content: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array_of(content), allow_pickle=True)
    return buffer.getvalue()


def npz(*names: str) -> Callable[[object], bytes]:
    def build(content: object) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **dict.fromkeys(names, array_of(content)))
        return buffer.getvalue()

    return build


def pandas_table(content: object) -> bytes:
    """A pandas frame in the table format; the names of its columns are a pickle in an attribute."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        table = file.create_dataset("df/table", data=np.zeros(3, [("index", "<i8"), ("values_block_0", "<f8", (2,))]))
        table.attrs["index_kind"] = np.bytes_("datetime64")
        table.attrs["values_block_0_kind"] = np.void(pickle.dumps(content, protocol=0))
    return buffer.getvalue()


def torch_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": "stunet", "weights": content}, buffer)
    return buffer.getvalue()


def zip_of_a_pickle(content: object) -> bytes:
    """What torch.save writes, made by hand."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("model/version", "3\n")
        archive.writestr("model/byteorder", "little")
    return buffer.getvalue()


def unpickle(content: bytes) -> None:
    pickle.loads(content)


def load_arrays(content: bytes) -> None:
    loaded = np.load(io.BytesIO(content), allow_pickle=True)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        loaded[loaded.files[0]]


def load_names(content: bytes) -> None:
    with h5py.File(io.BytesIO(content)) as file:
        pickle.loads(bytes(file["df/table"].attrs["values_block_0_kind"]))


def load_torch(content: bytes) -> None:
    torch.load(io.BytesIO(content), weights_only=False)


class Carrier(NamedTuple):
    """A kind of file that can carry a payload."""

    name: str
    build: Callable[[object], bytes]
    careless: Callable[[bytes], None]
    """The unrestricted reader."""
    read: Callable[[Path], object]
    """Ours."""


CARRIERS: dict[str, Carrier] = {
    "adj_mx.pkl, protocol 0": Carrier("adj_mx.pkl", lambda p: pickle.dumps(p, 0), unpickle, read_graph),
    "adj_mx.pkl, protocol 2": Carrier("adj_mx.pkl", lambda p: pickle.dumps(p, 2), unpickle, read_graph),
    "adj_mx.pkl, protocol 5": Carrier("adj_mx.pkl", lambda p: pickle.dumps(p, 5), unpickle, read_graph),
    "pickle under another name": Carrier("graph.csv", lambda p: pickle.dumps(p, 4), unpickle, read_graph),
    "pickle to be inspected": Carrier("adj_mx.pkl", lambda p: pickle.dumps(p, 4), unpickle, read_data_file),
    "pickle of readings": Carrier("speeds.h5", lambda p: pickle.dumps(p, 4), unpickle, read_series),
    "npy": Carrier("graph.npy", npy, load_arrays, read_graph),
    "npz of a graph": Carrier("graph.npz", npz("adjacency", "sensor_ids"), load_arrays, read_graph),
    "npz of readings": Carrier("own.npz", npz(*SERIES_KEYS), load_arrays, read_series),
    "npz to be inspected": Carrier("own.npz", npz("adjacency", *SERIES_KEYS), load_arrays, read_data_file),
    "PEMS04.npz": Carrier("PEMS04.npz", npz("data"), load_arrays, read_series),
    "pandas table": Carrier("metr-la.h5", pandas_table, load_names, read_series),
    "model.pt as a pickle": Carrier("model.pt", pickle.dumps, unpickle, Checkpoint.load),
    "model.pt by torch": Carrier("model.pt", torch_file, load_torch, Checkpoint.load),
    "model.pt as a zip of a pickle": Carrier("model.pt", zip_of_a_pickle, load_torch, Checkpoint.load),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_is_refused_and_runs_nothing(carrier: str, payload: str, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    name, build, careless, read = CARRIERS[carrier]
    content = build(PAYLOADS[payload](proof))
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(StunetError):
        read(path)

    assert not proof.exists()
    careless(content)
    assert proof.exists()


@pytest.mark.parametrize(("name", "read"), [("adj_mx.pkl", read_graph), ("model.pt", Checkpoint.load)])
def test_a_name_with_dots_does_not_lead_from_numpy_to_the_system(
    name: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    function, command = b"testing._private.utils.os.system", f"touch {proof}".encode()
    content = b"\x80\x04\x8c\x05numpy\x8c" + bytes([len(function)]) + function + b"\x93X"
    content += len(command).to_bytes(4, "little") + command + b"\x85R."
    (tmp_path / name).write_bytes(content)

    with pytest.raises(StunetError):
        read(tmp_path / name)

    assert not proof.exists()
    pickle.loads(content)
    assert proof.exists()


def test_the_error_names_what_the_pickle_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "adj_mx.pkl"
    path.write_bytes(pickle.dumps([["11"], {}, Call(os.system, "true")]))

    with pytest.raises(StunetError, match=r"asks for (posix|nt)\.system, which could run code"):
        read_graph(path)
