"""The messages of an ONNX model, as onnx.proto of ONNX 1.23 defines them; those fields that no step has are refused.

Refused are the ways out of the file (external data), code in the model (functions, graphs in attributes, training),
tensors that are not plain numbers, and what places nodes on devices.
"""

from __future__ import annotations

from stunet_deploy.onnx_graph.wire import Field, Kind, Layout


def _refused(names: dict[int, str]) -> dict[int, Field]:
    return {number: Field(name, Kind.REFUSED) for number, name in names.items()}


_ENTRY = Layout("an entry of metadata", {1: Field("key", Kind.TEXT), 2: Field("value", Kind.TEXT)})
_DIMENSION = Layout(
    "a dimension",
    {1: Field("dim_value", Kind.INT64), 2: Field("dim_param", Kind.TEXT), **_refused({3: "a denotation"})},
    frozenset({"dim_value", "dim_param"}),
)
_SHAPE = Layout("a shape", {1: Field("dim", _DIMENSION, repeated=True)})
_TENSOR_TYPE = Layout("a type", {1: Field("elem_type", Kind.COUNT), 2: Field("shape", _SHAPE)})
_TYPE = Layout(
    "a type",
    {
        1: Field("tensor_type", _TENSOR_TYPE),
        **_refused(
            {
                4: "a sequence",
                5: "a map",
                6: "a denotation",
                7: "an opaque type",
                8: "a sparse tensor",
                9: "an optional",
            }
        ),
    },
)
_VALUE = Layout(
    "a description of a value",
    {
        1: Field("name", Kind.TEXT),
        2: Field("type", _TYPE),
        **_refused({3: "a doc_string", 4: "metadata"}),
    },
)
_TENSOR = Layout(
    "a tensor",
    {
        1: Field("dims", Kind.INT64, repeated=True),
        2: Field("data_type", Kind.COUNT),
        8: Field("name", Kind.TEXT),
        9: Field("raw_data", Kind.RAW),
        **_refused(
            {
                3: "a segment",
                4: "float_data in place of raw_data",
                5: "int32_data in place of raw_data",
                6: "strings",
                7: "int64_data in place of raw_data",
                10: "double_data in place of raw_data",
                11: "uint64_data in place of raw_data",
                12: "a doc_string",
                13: "external data",
                14: "a location of its data",
                16: "metadata",
            }
        ),
    },
)
_ATTRIBUTE = Layout(
    "an attribute",
    {
        1: Field("name", Kind.TEXT),
        2: Field("f", Kind.FLOAT),
        3: Field("i", Kind.INT64),
        4: Field("s", Kind.TEXT),
        5: Field("t", _TENSOR),
        8: Field("ints", Kind.INT64, repeated=True),
        20: Field("type", Kind.COUNT),
        **_refused(
            {
                6: "a graph: control flow",
                7: "a list of floats",
                9: "strings",
                10: "tensors",
                11: "graphs: control flow",
                13: "a doc_string",
                14: "a type",
                15: "types",
                21: "a reference to an attribute of a function",
                22: "a sparse tensor",
                23: "sparse tensors",
            }
        ),
    },
)
_NODE = Layout(
    "a node",
    {
        1: Field("input", Kind.TEXT, repeated=True),
        2: Field("output", Kind.TEXT, repeated=True),
        3: Field("name", Kind.TEXT),
        4: Field("op_type", Kind.TEXT),
        5: Field("attribute", _ATTRIBUTE, repeated=True),
        7: Field("domain", Kind.TEXT),
        **_refused({6: "a doc_string", 8: "an overload", 9: "metadata", 10: "a configuration of devices"}),
    },
)
_GRAPH = Layout(
    "a graph",
    {
        1: Field("node", _NODE, repeated=True),
        2: Field("name", Kind.TEXT),
        5: Field("initializer", _TENSOR, repeated=True),
        11: Field("input", _VALUE, repeated=True),
        12: Field("output", _VALUE, repeated=True),
        13: Field("value_info", _VALUE, repeated=True),
        **_refused({10: "a doc_string", 14: "notes on quantisation", 15: "sparse tensors", 16: "metadata"}),
    },
)
_OPERATOR_SET = Layout("an operator set", {1: Field("domain", Kind.TEXT), 2: Field("version", Kind.INT64)})

MODEL = Layout(
    "a model",
    {
        1: Field("ir_version", Kind.INT64),
        2: Field("producer_name", Kind.TEXT),
        3: Field("producer_version", Kind.TEXT),
        4: Field("domain", Kind.TEXT),
        5: Field("model_version", Kind.INT64),
        7: Field("graph", _GRAPH),
        8: Field("opset_import", _OPERATOR_SET, repeated=True),
        14: Field("metadata_props", _ENTRY, repeated=True),
        **_refused({6: "a doc_string", 20: "training", 25: "functions of its own", 26: "a configuration of devices"}),
    },
)
#: The same of which only metadata are looked at: the graph stays where it is.
NOTES = Layout("a model", {**MODEL.fields, 7: Field("graph", Kind.RAW)})
#: Keys of metadata are ours: those of ONNX Runtime may change how it opens the model.
KEYS = "stunet."
#: The kinds of attributes that a step has: their numbers, and the field that each is in.
ATTRIBUTE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 7: "ints"}
