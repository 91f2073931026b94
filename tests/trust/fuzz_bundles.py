"""Damaged bundles whose digests are right again: each is refused by a ValueError, or learns."""

import copy
import hashlib
import json
import random
import re
import shutil

import keras
import numpy as np
from models import images, small_net, tiny_net
from trust.mutations import mutations

from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.bundle_folder import MANIFEST, manifest_digest
from keras_tinytrain.export.tflite.verify import verified
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run._checked_tables import checked_tables
from keras_tinytrain.run.bundle_runtime import runtime_module

ODD = (None, True, -1, 0, 1, 2**31, 2**70, 0.5, 1e300, "", "..", "../x", "a\nb", '"; }', [], {}, [[]], {"a": 1})


def exported(folder):
    """A small bundle."""
    model = small_net()
    training = TrainingSettings(num_classes=3, max_samples=6, iterations=1)
    plan = Plan((LayerPlan("project", (1, 4)), LayerPlan("logits", (2,))))
    return export_tflm(
        model, plan, calibration=images(model, 8), out=folder / "good", training=training, views=((1, 0),), head="prototypes"
    )


def closed_form_learned(folder):
    """The trainer of a small bundle, after training, whose closed-form head tells samples of no class: its delta has all records."""
    net = tiny_net()
    model = keras.Model(net.input, net.get_layer("pool").output)
    training, plan = TrainingSettings(num_classes=2, max_samples=6, iterations=1), Plan((LayerPlan("b3_conv", (1, 4)),))
    options = {"head": "ridge", "reject_unknown": 0.1, "training": training}
    host = HostRuntime(export_tflm(model, plan, calibration=images(model, 8), out=folder / "good", **options))
    host.add_samples(images(model, 4), np.arange(4) % 2)
    host.add_unknown(images(model, 2))
    host.train()
    return host.trainer


def places(value):
    """(container, key) of everything in a manifest."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def altered(fields, draw):
    """A copy of a file's fields with a value replaced, removed or added."""
    fields = copy.deepcopy(fields)
    container, key = draw.choice(list(places(fields)))
    if draw.random() < 0.2:
        del container[key]
    elif draw.random() < 0.2 and isinstance(container, dict):
        container[draw.choice(("extra", "__class__", ""))] = draw.choice(ODD)
    else:
        number = isinstance(container[key], (int, float)) and draw.random() < 0.5
        container[key] = container[key] + draw.choice((-1, 1, 255)) if number else draw.choice(ODD)
    return fields


def manifests(bundle, count, draw):
    """Manifests, with a digest that is right."""
    for _ in range(count):
        yield {MANIFEST: altered(bundle.manifest, draw)}


def plans(bundle, count, draw):
    """plan.json, altered once or twice."""
    fields = json.loads((bundle.path / "plan.json").read_text())
    for _ in range(count):
        once = altered(fields, draw)
        yield {"plan.json": json.dumps(altered(once, draw) if once and draw.random() < 0.5 else once).encode()}


def tables(bundle, count, draw):
    """tables.cpp with one or two of its words replaced, removed, doubled or exchanged."""
    text = (bundle.path / "tables.cpp").read_text()
    words = list(re.finditer(r"[\w:.]+|[{}();,\[\]\"=]|\n", text))
    begin = text.index("kTensors[]")
    words = [word for word in words if word.start() > begin]
    for _ in range(count):
        damaged = text
        for word in sorted(draw.sample(words, draw.choice((1, 1, 2))), key=lambda word: -word.start()):
            other = draw.choice(words)[0]
            new = draw.choice(
                (other, "", word[0] * 2, "-1", "0", "65535", "2147483647", "99999999999", "nullptr", "1e39f", "kTables")
            )
            damaged = damaged[: word.start()] + new + damaged[word.end() :]
        yield {"tables.cpp": damaged.encode("utf-8", "replace")}


def models(bundle, count, draw):
    """trainable.tflite with bytes replaced."""
    for data in mutations(bundle.trainable, count, seed=draw.randrange(2**31)):
        yield {"trainable.tflite": data}


KINDS = {"manifest": manifests, "plan": plans, "tables": tables, "tflite": models}


def write(good, folder, changed):
    """A copy of a bundle with other files, and digests that are right. A folder that is there already is such a copy."""
    if not folder.exists():
        shutil.copytree(good.path, folder)
    manifest = changed.get(MANIFEST) or copy.deepcopy(good.manifest)
    for name, data in changed.items():
        if name != MANIFEST:
            (folder / name).write_bytes(data)
            manifest["files"][name] = hashlib.sha256(data).hexdigest()
            if name == "trainable.tflite":
                sizes = manifest["flash"]
                sizes["total"] += len(data) - sizes["trainable_model"]
                sizes["trainable_model"] = len(data)
    manifest["sha256"] = manifest_digest(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def trainer_of(tables, info):
    """A trainer over a bundle's tables; all outputs are alike, in place of TFLM's."""
    sizes = {tensor["kept"]: int(np.prod(tensor["shape"])) for tensor in reversed(info["tensors"])}
    sizes[info["head_output"]] = int(np.prod(info["tensors"][-1]["shape"]))
    return runtime_module().Trainer(
        tables.address,
        lambda features: [np.full(sizes.get(index, 1), 3, np.int8) for index in range(info["num_outputs"])],
        lambda image: np.ones(info["tensors"][0]["shape"], np.int8),
        owner=tables,
        settings={"iterations": 1, "max_samples": 3},
    )


def learn(folder):
    """Read a bundle as a runtime does, and train it. Raises ValueError where it is refused."""
    bundle = Bundle.load(folder)
    bundle.check()
    verified(bundle.trainable)
    tables = checked_tables(bundle)
    info = runtime_module().tables_info(tables.address)
    if np.prod(info["image_shape"]) <= 10**5:
        trainer = learned(trainer_of(tables, info), info)
        trainer.load_delta(trainer.save_delta())


def learned(trainer, info):
    """The trainer after an iteration of training."""
    for label in range(min(3, info["training"]["num_classes"])):
        trainer.add_sample(np.ones(info["image_shape"], np.int8), label)
    trainer.train()
    return trainer


def fuzz(good, kind, count, seed, folder):
    """(tried, refused) of damaged copies. Any other end than a ValueError, or a RuntimeError of the trainer, is raised."""
    refused = 0
    for changed in KINDS[kind](good, count, random.Random(seed)):
        write(good, folder, changed)
        try:
            learn(folder)
        except (ValueError, RuntimeError) as error:
            refused += 1
            assert str(error) and len(str(error)) < 2000, repr(error)
        for name in changed:
            shutil.copy(good.path / name, folder / name)
    return count, refused
