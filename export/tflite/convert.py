"""Keras model -> stock full-int8 .tflite: static batch 1, convolutions per channel, dense layers per tensor."""

import collections.abc

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain._quiet import quiet
from keras_tinytrain.export.tflite._islands import without_islands
from keras_tinytrain.export.tflite._norms import norms_as_convolutions
from keras_tinytrain.export.tflite.checks import check_int8, check_no_loops, check_scales
from keras_tinytrain.export.tflite.flatbuffer import operator_name, read_model, schema, tensor_name, write_model
from keras_tinytrain.export.tflite.layer_names import layers_in

LayersOf = collections.abc.Callable[[schema.ModelT, schema.OperatorT], list[str]]


def convert_int8(model: keras.Model, calibration: np.ndarray) -> bytes:
    """Quantise `model` after training: int8 weights, activations, input and output.

    Args:
        model: a built model with one input, in canonical form (`keras_tinytrain.model.fold.fold_batch_norm`).
        calibration: (N, ...) representative inputs in the model's own convention. The ranges they reach become the scales.

    Returns:
        The bytes of a .tflite file of TFLM's built-in operators. A tensor is named after the Keras layers that compute it
        (the last one first, "relu;conv", where they were fused), so that equal models give equal bytes.

    Raises:
        ValueError: the samples do not fit the model, TensorFlow cannot convert it, a layer computes in a loop or in float32,
            or a scale is degenerate. The layer is named.
    """
    samples = _check_calibration(model, calibration)
    check_no_loops(model)
    converted = norms_as_convolutions(model)
    run = tf.function(lambda x: converted(x, training=False), [tf.TensorSpec(samples[:1].shape, samples.dtype)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], converted)
    # Writing a SavedModel on the way takes three times as long as the rest, for the same operators.
    converter.experimental_lower_to_saved_model = False
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # Every TFLM before 2024, the Arduino library included, computes per-channel dense layers wrongly without a word.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    with quiet() as output:
        try:
            model_bytes = converter.convert()
        except Exception as error:
            raise ValueError(
                f"TensorFlow could not convert model '{model.name}' to int8: {error}\n{output()[-2000:]}"
            ) from error
    names = [layer.name for layer in model.layers]
    return finished(model_bytes, names, lambda whole, operator: layers_in(tensor_name(whole, operator.outputs[0]), names))


def finished(model_bytes: bytes, layer_names: list[str], layers_of: LayersOf) -> bytes:
    """The converter's file with tensors named after their layers. Raises ValueError where an operator is not int8 or a scale is degenerate.

    Args:
        model_bytes: the file that the converter wrote.
        layer_names: in execution order.
        layers_of: (model, operator) -> the layers that an operator computes, by the converter's names, in any order.
    """
    model_bytes = _name_tensors(without_islands(model_bytes), layer_names, layers_of)
    check_int8(model_bytes)
    check_scales(model_bytes)
    return model_bytes


def _name_tensors(model_bytes: bytes, layer_names: list[str], layers_of: LayersOf) -> bytes:
    """Replace the converter's names, which hold counters of this Python process, by those of the Keras layers."""
    model = read_model(model_bytes)
    graph = model.subgraphs[0]
    names = {int(graph.inputs[0]): layer_names[0]}
    for operator in graph.operators:
        output = int(operator.outputs[0])
        found = sorted(layers_of(model, operator), key=layer_names.index, reverse=True)
        nameless = layer_names[-1] if output in graph.outputs else operator_name(model, operator)
        names.setdefault(output, ";".join(found) or nameless)
    for index, tensor in enumerate(graph.tensors):
        tensor.name = names.get(index, "").encode()
    model.signatureDefs = None  # it also names tensors
    return write_model(model)


def _check_calibration(model: keras.Model, calibration: np.ndarray) -> np.ndarray:
    samples = np.asarray(calibration, dtype=np.float32)
    expected = tuple(model.input_shape[1:])
    if samples.shape[1:] != expected or not len(samples):
        raise ValueError(
            f"calibration expects an array of shape (N, {', '.join(map(str, expected))}) with N >= 1, samples in the "
            f"model's own convention. Received shape: {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise ValueError("calibration holds values that are not finite: remove those samples.")
    return samples
