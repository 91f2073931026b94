"""A bundle's tables as memory that the C++ trainer may read: every index and every weight lies inside what the bundle holds."""

import typing

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.run.bundle_runtime import runtime_module


def checked_tables(bundle: Bundle) -> ReadTables:
    """The tables of a bundle. Nothing of it is compiled.

    Raises:
        ValueError: the tables are for another version of the runtime, contradict themselves, or name weights that
            trainable.tflite does not have.
    """
    source, trainable = bundle.path / "tables.cpp", bundle.trainable
    tables = ReadTables(source, trainable)
    status = runtime_module().check_tables(tables.address)
    if status != "ok":
        raise ValueError(f"{source}: {status}. Export the bundle again.")
    for address, num_bytes, alignment in _weights(tables):
        offset = tables.offset(address)
        if not 0 <= offset <= len(trainable) - num_bytes or offset % alignment:
            raise ValueError(
                f"{source}: {num_bytes} B of weights at offset {offset} do not lie in the {len(trainable)} B of trainable.tflite."
            )
    sizes: dict[int, int] = {}
    for output, size in _kept(tables):
        if sizes.setdefault(output, size) != size:
            raise ValueError(
                f"{source}: output {output} of trainable.tflite is said to have {size} values, and {sizes[output]}. Export the "
                "bundle again."
            )
    return tables


def _kept(tables: ReadTables) -> typing.Iterator[tuple[int, int]]:
    """(output of the trainable part, number of its values) of every tensor that is kept there, and of the head."""
    values = tables.tables
    tensors = tables.array(values.tensors, "Tensor", values.num_tensors)
    for output, tensor in ((values.head_output, tensors[-1]), *((each.kept, each) for each in tensors)):
        if output >= 0:
            yield output, tensor.height * tensor.width * tensor.channels


def _weights(tables: ReadTables) -> typing.Iterator[tuple[int, int, int]]:
    """(address, bytes, alignment) of every kernel and bias. A split layer has those of its trained channels apart."""
    values, shapes = tables.tables, runtime_module().tables_info(tables.address)["kernels"]
    layers = tables.array(values.layers, "Layer", values.num_layers)
    apart = {each.layer: each for each in tables.array(values.trained, "TrainedLayer", values.num_trained) if each.kernel}
    for index, (layer, (num_channels, row)) in enumerate(zip(layers, shapes, strict=True)):
        trained = apart.get(index)
        rest = num_channels - (trained.num_channels if trained else 0)
        for part, count in ((layer, rest), (trained, num_channels - rest)):
            if part and num_channels and part.kernel is not None:
                yield part.kernel, count * row, 1
            if part and num_channels and part.bias is not None:
                yield part.bias, count * 4, 4
