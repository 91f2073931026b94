"""The tables of an `int8_net.Net` as the exporter would write them: as C++, and compiled."""

import ctypes
import os
import subprocess

import numpy as np

from tests.runtime.int8_net import NONE
from tests.runtime.paths import SOURCES

OPERATORS = {
    "conv": "kConv2D",
    "depthwise": "kDepthwiseConv2D",
    "dense": "kDense",
    "add": "kAdd",
    "pool": "kAveragePool2D",
    "activation": "kActivation",
    "reshape": "kReshape",
    "max": "kMaxPool2D",
    "pad": "kPad",
    "leaky": "kLeakyRelu",
    "multiply": "kMultiply",
    "scale": "kScale",
    "logistic": "kLogistic",
    "hard_swish": "kHardSwish",
    "concatenate": "kConcatenate",
    "tanh": "kTanh",
    "elu": "kElu",
    "prelu": "kPrelu",
    "along": "kDenseAlong",
}
ACTIVATIONS = {"linear": "kLinear", "relu": "kRelu", "relu6": "kRelu6"}


def load_tables(net, folder):
    """Compile the tables into a shared library; returns (address, the library, to be kept alive)."""
    source, library = folder / "tables.cpp", folder / "tables.so"
    source.write_text(render_tables(net))
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-std=gnu++14", "-shared", "-fPIC", f"-I{SOURCES}", source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.tinytrain_tables.restype = ctypes.c_void_p
    return loaded.tinytrain_tables(), loaded


def render_tables(net, symbol="tinytrain_tables"):
    """The tables as C++ with one extern "C" function that returns their address."""
    code = ['#include "tinytrain_tables.h"', "namespace {", "using namespace tinytrain;"]
    for i, layer in enumerate(net.layers):
        others = np.delete(np.arange(layer.kernel.shape[0]), net.trained[i]) if i in net.split else ...
        if layer.kernel is not None:
            code.append(array("std::int8_t", f"kernel_{i}", layer.kernel[others].reshape(-1)))
        if layer.scales is not None:
            code.append(array("float", f"scales_{i}", layer.scales))
        if layer.bias is not None:
            code.append(array("std::int32_t", f"bias_{i}", layer.bias[others]))
        if i in net.split:
            code.append(array("std::int8_t", f"trained_kernel_{i}", layer.kernel[net.trained[i]].reshape(-1)))
        if i in net.split and layer.bias is not None:
            code.append(array("std::int32_t", f"trained_bias_{i}", layer.bias[net.trained[i]]))
    for index, channels in net.trained.items():
        code.append("" if net.candidates else array("std::uint16_t", f"channels_{index}", channels))
    code.append(f"const Tensor tensors[] = {{{', '.join(render_tensor(t) for t in net.tensors)}}};")
    code.append(f"const Layer layers[] = {{{', '.join(render_layer(net, i) for i in range(len(net.layers)))}}};")
    code.append(f"const TrainedLayer trained[] = {{{', '.join(render_trained(net, i) for i in net.trained)}}};")
    if net.views:
        rows = (f"{{{y}, {x}, {str(mirrored).lower()}}}" for y, x, mirrored in net.views)
        code.append(f"const View views[] = {{{', '.join(rows)}}};")
    code += [
        f"const Tables tables = {render_root(net)};",
        "}  // namespace",
        f'extern "C" const void* {symbol}() {{ return &tables; }}',
        "",
    ]
    return "\n".join(code)


def render_tensor(t):
    place = f"{t.kept}, {t.gradient_offset}, {t.num_planes}"
    return f"{{{', '.join(map(str, t.shape))}, {number(t.scale)}, {t.zero_point}, {place}}}"


def render_layer(net, i):
    x = net.layers[i]
    pointers = ", ".join(f"{name}_{i}" if has else "nullptr" for name, has in _arrays(x))
    bias = f"bias_{i}" if x.bias is not None else "nullptr"
    flags = ", ".join(str(a).lower() for a in x.accumulate)
    return (
        f"{{Operator::{OPERATORS[x.op]}, Activation::{ACTIVATIONS[x.activation]}, {flags}, {x.input}, {x.input2}, "
        f"{x.output}, {', '.join(map(str, x.window))}, {number(x.slope)}, {pointers}, {bias}}}"
    )


def _arrays(layer):
    return ("kernel", layer.kernel is not None), ("scales", layer.scales is not None)


def render_trained(net, i):
    bias = 200 + i if net.layers[i].bias is not None else NONE
    split = f"trained_kernel_{i}" if i in net.split else "nullptr"
    split += f", trained_bias_{i}" if i in net.split and net.layers[i].bias is not None else ", nullptr"
    channels = "nullptr" if net.candidates else f"channels_{i}"
    return f'{{"layer_{i}", {i}, {100 + i}, {bias}, {len(net.trained[i])}, {channels}, {split}}}'


def render_root(net):
    s = {
        "optimizer": "kSgd",
        "weights": "kFloatMasters",
        "updates": "kAccumulated",
        "leave_one_out": False,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
        "logit_scale": 10.0,
        "average": 0.0,
        "iterations": 3,
        "num_classes": 3,
        "max_samples": 8,
        "seed": 0,
        "stop_loss": 0.0,
        "skip_loss": 0.0,
        "late_prototypes": False,
        "only_if_needed": False,
        **net.settings,
    }
    training = ", ".join(
        [
            f"Optimizer::{s['optimizer']}",
            f"WeightStorage::{s['weights']}",
            f"Updates::{s['updates']}",
            str(s["leave_one_out"]).lower(),
            *(number(s[k]) for k in ("learning_rate", "momentum", "beta_2", "epsilon", "logit_scale", "average")),
            *(str(s[k]) for k in ("iterations", "num_classes", "max_samples", "seed")),
            *(number(s[k]) for k in ("stop_loss", "skip_loss")),
            *(str(s[k]).lower() for k in ("late_prototypes", "only_if_needed")),
        ]
    )
    head = "kPrototypes" if net.head == "prototypes" else "kSoftmax"
    views = f"{len(net.views)}, {'views' if net.views else 'nullptr'}"
    candidates = "0, 0, Criterion::kPotential, 0"
    if net.candidates:
        criterion, macs = net.candidates
        candidates = f"{len(net.trained)}, {sum(map(len, net.trained.values()))}, Criterion::{criterion}, {macs}u"
    return (
        f"{{kTablesVersion, {{{', '.join(map(str, net.base_hash))}}}, Head::{head}, "
        f"{', '.join(map(str, net.image_shape))}, 0.05f, 0, {len(net.tensors)}, tensors, {len(net.layers)}, layers, "
        f"{len(net.trained)}, trained, {net.num_outputs}, {net.tensors[-1].kept}, {views}, {net.gradient_bytes}, "
        f"{{{training}}}, {{{candidates}}}}}"
    )


def number(x):
    return float(np.float32(x)).hex() + "f"


def array(ctype, name, values):
    text = ", ".join(number(v) if ctype == "float" else str(int(v)) for v in values)
    return f"const {ctype} {name}[] = {{{text}}};"
