"""Hostile step graphs: those that reach outside of themselves, never end, grow without bound, or have two meanings.

Each is the step of a good bundle, altered, in a bundle that agrees with its own hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.faults.hostile.kinds import FOREIGN, SECRET, Kind
from benchmarks.faults.hostile.models import whole_bundle

#: How ONNX Runtime names tensors that lie in memory, at the address that is their offset.
_IN_MEMORY = "*/_ORT_MEM_ADDR_/*"
_HUGE = 10**12


class Altered(NamedTuple):
    """A step graph that is altered.

    Attributes:
        alter: returns the bytes of what it makes of a good model, or None where it has changed that.
        refused: words of what is said about it.
    """

    alter: Callable[[onnx.ModelProto], bytes | None]
    refused: str


def external(location: str, **entries: int) -> TensorProto:
    """Return a tensor whose numbers lie elsewhere."""
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def constants(*tensors: TensorProto) -> Callable[[onnx.ModelProto], None]:
    """Return what adds constants."""
    return lambda model: model.graph.initializer.extend(tensors)


def array(name: str, values: Any) -> TensorProto:
    """Return a constant; what is not whole is float32."""
    made = np.asarray(values)
    return onnx.numpy_helper.from_array(made.astype(np.float32) if made.dtype == np.float64 else made, name)


def nodes(
    *made: onnx.NodeProto, of: Sequence[TensorProto] = (), before: bool = True
) -> Callable[[onnx.ModelProto], None]:
    """Return what adds nodes, before all others or after them, and their constants."""

    def alter(model: onnx.ModelProto) -> None:
        old = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*made, *old] if before else [*old, *made])
        model.graph.initializer.extend(of)

    return alter


def node(operator: str, inputs: Sequence[str] = (), output: str = "made", **options: Any) -> onnx.NodeProto:
    """Return a node."""
    return helper.make_node(operator, list(inputs), [output], **options)


def sized(operator: str, *operands: str, size: Any = (_HUGE,), **options: Any) -> Callable[[onnx.ModelProto], None]:
    """Return what adds a node whose result has a size that a constant says."""
    one = array("one", [1.0])
    return nodes(node(operator, operands, **options), of=(one, array("size", size)))


def doubled(model: onnx.ModelProto) -> None:
    """Put a value beside itself again and again."""
    names = [f"v{step}" for step in range(40)]
    made = (node("Concat", (one, one), two, axis=0) for one, two in pairwise(names))
    nodes(*made, of=[array("v0", np.zeros((2, 1), np.float32))])(model)


def squared(model: onnx.ModelProto) -> None:
    """Multiply a column with itself as a row and make a column of that, again and again: squares of squares."""
    made = []
    for step in range(40):
        made += [node("Reshape", (f"v{step}", "column"), f"c{step}"), node("Reshape", (f"v{step}", "row"), f"r{step}")]
        made.append(node("MatMul", (f"c{step}", f"r{step}"), f"v{step + 1}"))
    shapes = (array("column", [-1, 1]), array("row", [1, -1]))
    nodes(*made, of=[array("v0", np.zeros((2, 1), np.float32)), *shapes])(model)


def listed(model: onnx.ModelProto) -> None:
    """Make a list of sizes that becomes some hundred times as long, again and again."""
    made = [node("Concat", [f"v{step}"] * 700, f"v{step + 1}", axis=0) for step in range(3)]
    nodes(*made, of=[array("v0", [1] * 64)])(model)


def gathered(model: onnx.ModelProto) -> None:
    """Gather a long row again and again."""
    places = array("places", np.zeros(10**6, np.int64))
    row = array("row", np.zeros((1, 10**6), np.float32))
    nodes(node("Gather", ("row", "places"), axis=0), of=[row, places])(model)


def outer(operator: str) -> Callable[[onnx.ModelProto], None]:
    """Return what lets a long column meet a long row."""
    column, row = np.zeros((10**6, 1), np.float32), np.zeros((1, 10**6), np.float32)
    return nodes(node(operator, ("column", "row")), of=(array("column", column), array("row", row)))


def busy(model: onnx.ModelProto) -> None:
    """Multiply a long row with a long column, again and again: hours of work for few numbers."""
    made = [node("ConstantOfShape", (name,), f"long_{name}") for name in ("row", "column")]
    made += [node("MatMul", ("long_row", "long_column"), f"v{step}") for step in range(10_000)]
    nodes(*made, of=[array("row", [1, 2**24]), array("column", [2**24, 1])])(model)


def body(inner: Sequence[onnx.NodeProto], outputs: Sequence[str], tensors: Sequence[TensorProto] = ()) -> Any:
    """Return a graph of nodes within an attribute."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return helper.make_graph(list(inner), "body", [], info, list(tensors))


def endless(model: onnx.ModelProto) -> None:
    """Add a loop that never ends, on whose result the forecast depends."""
    given = [
        helper.make_tensor_value_info("n", TensorProto.INT64, []),
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
    ]
    inner = helper.make_graph([node("Identity", ("on",), "still")], "body", given, [
        helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    ])  # fmt: skip
    nodes(helper.make_node("Loop", ["", "yes"], [], body=inner), of=(array("yes", True),))(model)


def branch(*tensors: TensorProto) -> Callable[[onnx.ModelProto], None]:
    """Return what adds a branch whose graphs have constants."""
    inner = body([node("Constant", (), "made", value=array("c", [1.0]))], ["made"], tensors)
    choice = node("If", ("yes",), "chosen", then_branch=inner, else_branch=inner)
    return nodes(choice, of=(array("yes", True),))


def nested(depth: int) -> Callable[[onnx.ModelProto], None]:
    """Return what adds branches within branches."""
    inner = body([node("Constant", (), "made", value=array("c", [1.0]))], ["made"])
    for _ in range(depth):
        inner = body([node("If", ("yes",), "made", then_branch=inner, else_branch=onnx.GraphProto())], ["made"])
    return nodes(node("If", ("yes",), "chosen", then_branch=inner), of=(array("yes", True),))


def function(domain: str, inner: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """Return what adds a function of the model."""

    def alter(model: onnx.ModelProto) -> None:
        model.functions.add(domain=domain, name="Add", input=["a", "b"], output=["made"], node=[inner])

    return alter


def sparse(model: onnx.ModelProto) -> None:
    """Add a sparse constant whose numbers lie elsewhere."""
    model.graph.sparse_initializer.add(values=external("/etc/passwd"), dims=[4])


def training(model: onnx.ModelProto) -> None:
    """Add training whose constants lie elsewhere."""
    model.training_info.add().algorithm.initializer.append(external(FOREIGN))


def strange(model: onnx.ModelProto) -> None:
    """Let an input be a sequence."""
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
    model.graph.input[0].type.CopyFrom(sequence)


def versions(**changes: Any) -> Callable[[onnx.ModelProto], None]:
    """Return what changes a version."""

    def alter(model: onnx.ModelProto) -> None:
        model.ir_version = changes.get("ir", model.ir_version)
        model.opset_import[0].version = changes.get("opset", model.opset_import[0].version)
        if "domain" in changes:
            model.opset_import.add(domain=changes["domain"], version=1)

    return alter


def claims(name: str, shape: Sequence[int]) -> Callable[[onnx.ModelProto], None]:
    """Return what changes what is said of the shape of a value."""

    def alter(model: onnx.ModelProto) -> None:
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        next(value for value in (*model.graph.output, *model.graph.value_info) if value.name == name).CopyFrom(info)

    return alter


def metadata(model: onnx.ModelProto) -> None:
    """Add options of ONNX Runtime."""
    model.metadata_props.add(key="ort_config", value='{"session_options": {"inter_op_num_threads": 1000}}')


def field(number: int, content: bytes, wire: int = 2) -> bytes:
    """Return a field of Protocol Buffers."""
    size = varint(len(content)) if wire == 2 else b""
    return varint(number << 3 | wire) + size + content


def varint(number: int) -> bytes:
    """Return a number of Protocol Buffers."""
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def behind(content: bytes) -> Callable[[onnx.ModelProto], bytes]:
    """Return what writes bytes behind a model."""
    return lambda model: model.SerializeToString() + content


def short_tensor(model: onnx.ModelProto) -> None:
    """Let a constant be shorter than its shape."""
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1]


def two_contents(model: onnx.ModelProto) -> None:
    """Give a constant its numbers in two ways."""
    model.graph.initializer[0].float_data.append(1.0)


_MERGED = onnx.ModelProto(graph=onnx.GraphProto(initializer=[external("/etc/passwd")])).SerializeToString()
_ADD_EXTERNAL = node("Constant", (), value=external(FOREIGN))
_MANY = 20_000

ALTERED: Mapping[str, Altered] = {
    "external data at an absolute path": Altered(constants(external("/etc/passwd")), "external data"),
    "external data at a path upwards": Altered(constants(external(f"../{FOREIGN}")), "external data"),
    "external data in a file of the folder": Altered(constants(external("w.bin")), "external data"),
    "external data in a part of a file": Altered(
        constants(external("manifest.json", offset=0, length=16)), "external data"
    ),
    "external data in memory": Altered(constants(external(_IN_MEMORY, offset=4096, length=16)), "external data"),
    "external data of no place": Altered(
        constants(TensorProto(name="x", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)), "a location"
    ),
    "external data in an attribute": Altered(
        nodes(node("ConstantOfShape", ("size",), value=external(FOREIGN)), of=[array("size", [2])]),
        "external data",
    ),
    "external data in a node": Altered(nodes(_ADD_EXTERNAL), "external data"),
    "external data in a branch": Altered(branch(external("/etc/passwd")), "control flow"),
    "external data in a function": Altered(function("local", _ADD_EXTERNAL), "functions"),
    "external data in training": Altered(training, "training"),
    "external data in a sparse constant": Altered(sparse, "sparse tensors"),
    "an endless loop": Altered(endless, "control flow"),
    "a branch": Altered(branch(), "control flow"),
    "branches in branches": Altered(nested(20), "control flow"),
    "a scan": Altered(nodes(node("Scan", ("values",), body=body([], []), num_scan_inputs=1)), "control flow"),
    "a map over a sequence": Altered(nodes(node("SequenceMap", ("values",), body=body([], []))), "control flow"),
    "a graph in an addition": Altered(nodes(node("Add", ("values", "values"), body=body([], []))), "control flow"),
    "a function in the place of an operator": Altered(function("", node("Mul", ("a", "b"))), "functions"),
    "an operator of ONNX Runtime": Altered(nodes(node("Gelu", ("values",), domain="com.microsoft")), "com.microsoft"),
    "an operator of a library": Altered(nodes(node("Run", ("values",), domain="custom")), "custom"),
    "an operator that no step has": Altered(nodes(node("NonZero", ("values",))), "no step has"),
    "random numbers": Altered(nodes(node("RandomNormal", (), shape=[4])), "no step has"),
    "a recurrent operator": Altered(nodes(node("GRU", ("values",) * 3, hidden_size=4)), "no step has"),
    "further operator sets": Altered(versions(domain="com.microsoft"), "operator sets"),
    "operators of the future": Altered(versions(opset=99), "operator sets"),
    "operators of the past": Altered(versions(opset=1), "operator sets"),
    "a format of the future": Altered(versions(ir=99), "format 99"),
    "a constant of text": Altered(
        constants(array("text", np.array(["x"], object))), "strings"
    ),
    "an input that is a sequence": Altered(strange, "a sequence"),
    "an expansion to terabytes": Altered(sized("Expand", "one", "size"), "numbers, and holds"),
    "a constant of terabytes": Altered(sized("ConstantOfShape", "size"), "numbers, and holds"),
    "a tile of terabytes": Altered(sized("Tile", "one", "size"), "no step has"),
    "padding of terabytes": Altered(sized("Pad", "one", "size", size=(0, _HUGE)), "no step has"),
    "a resize to terabytes": Altered(sized("Resize", "one", "", "", "size"), "no step has"),
    "a range of terabytes": Altered(sized("Range", "size", "size", "size", size=_HUGE), "no step has"),
    "a sum of terabytes": Altered(outer("Add"), "numbers, and holds"),
    "a product of terabytes": Altered(outer("MatMul"), "numbers, and holds"),
    "a value beside itself, forty times": Altered(doubled, "numbers, and holds"),
    "squares of squares": Altered(squared, "more than"),
    "a list of sizes without end": Altered(listed, "numbers, and holds"),
    "a row gathered again and again": Altered(gathered, "numbers, and holds"),
    "hours of work on nothing": Altered(busy, "multiplies"),
    "a size that readings say": Altered(
        nodes(node("Cast", ("time_of_week",), "size", to=7), node("Expand", ("values", "size"))), "from constants"
    ),
    "a negative size": Altered(sized("ConstantOfShape", "size", size=(-1,)), "sizes"),
    "a claim of terabytes": Altered(
        lambda model: claims(model.graph.value_info[0].name, [_HUGE])(model), "which is called"
    ),
    "an output of terabytes": Altered(claims("forecast", [1, _HUGE]), "which is called"),
    "very many nodes": Altered(
        nodes(*(node("Neg", ("values",), f"v{step}") for step in range(_MANY))), "nodes; a step has"
    ),
    "very many axes": Altered(
        nodes(node("Reshape", ("one", "size")), of=[array("one", 1.0), array("size", np.ones(60, np.int64))]),
        "axes",
    ),
    "a list of very many numbers": Altered(
        lambda model: model.graph.initializer[0].dims.extend([1] * 3_000_000), "fields"
    ),
    "a value that is made twice": Altered(nodes(node("Neg", ("values",), "forecast")), "there already"),
    "a value that is read before it is made": Altered(
        nodes(node("Neg", ("later",)), node("Neg", ("values",), "later")), "nothing before it makes"
    ),
    "a constant with the name of an input": Altered(constants(array("values", [1.0])), "of one name"),
    "a constant shorter than its shape": Altered(short_tensor, "bytes"),
    "a constant of two contents": Altered(two_contents, "float_data"),
    "options of ONNX Runtime": Altered(metadata, "ort_config"),
    "a graph in two parts": Altered(behind(_MERGED), "two values of graph"),
    "a version given twice": Altered(behind(b"\x08\x0a"), "two values of ir_version"),
    "an unknown field": Altered(behind(field(99, b"x")), "unknown field"),
    "a field of another type": Altered(behind(b"\x25abcd"), "another type"),
    "a group": Altered(behind(b"\x93\x06\x94\x06"), "unknown field"),
    "a number that is too long": Altered(behind(b"\x28\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), "too long"),
    "a number with a byte too many": Altered(behind(b"\x28\x80\x00"), "too long"),
    "bytes behind it": Altered(behind(bytes(100)), "unknown field"),
    "a graph that is cut off": Altered(lambda model: model.SerializeToString()[:-7], "cut off"),
    "another format": Altered(lambda model: b"\x18\x00\x00\x00ORTM" + bytes(100), "another type"),
    "no graph": Altered(lambda model: b"", "format None"),
}  # fmt: skip


def altered(alter: Callable[[onnx.ModelProto], bytes | None], model: bytes) -> bytes:
    """Return the bytes of an altered model."""
    proto = onnx.load_from_string(model)
    made = alter(proto)
    return proto.SerializeToString() if made is None else made


def _write(alter: Callable[[onnx.ModelProto], bytes | None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        step = folder / "step.onnx"
        step.write_bytes(altered(alter, step.read_bytes()))
        (folder / "w.bin").write_bytes(bytes(16))
        (folder.parent / FOREIGN).write_text(SECRET)

    return write


KINDS = tuple(Kind(f"a step with {name}", whole_bundle(_write(kind.alter))) for name, kind in ALTERED.items())
