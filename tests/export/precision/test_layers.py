"""The layers of a graph's nodes by the names of a checkpoint."""

import onnx_ir as ir

from export.precision.layers import layers_of_nodes


def test_every_product_has_a_layer_of_the_checkpoint(export, name):
    exported = export(name)
    weights = exported.checkpoint.model.state_dict()
    modules = {weight.rpartition(".")[0] for weight in weights}
    graph = ir.from_proto(exported.proto).graph

    layers = layers_of_nodes(graph)

    products = [node for node in graph if node.op_type == "MatMul"]
    assert products
    for node in products:
        layer = layers[node.name]
        named = [value.name for value in node.inputs if value.name in weights]
        assert layer in (named or modules), f"{node.name}: {layer}"
    heads = {layer for layer in layers.values() if layer.startswith("decoder")}
    assert any(layer.startswith("decoder.head") for layer in heads)


def test_propagation_belongs_to_the_cell_that_it_is_for(export):
    graph = ir.from_proto(export("ST-UNet").proto).graph
    layers = layers_of_nodes(graph)

    for node in graph:
        states = [value.name for value in node.inputs if value is not None and str(value.name).startswith("state.enc")]
        if node.op_type == "MatMul" and states:
            assert layers[node.name] == states[0].removeprefix("state.").replace("hidden", "cell")
