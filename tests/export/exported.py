"""A canonical model and its int8 conversion, from which tests cut the trainable part."""

from models import images

from keras_tinytrain.export.backward.graph import read_trainable
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import LayerPlan, Plan


class Exported:
    """A canonical model and its int8 conversion, made once."""

    def __init__(self, model):
        self.model = fold_batch_norm(model)
        self.whole = convert_int8(self.model, images(self.model, 8))

    def cut(self, *names, channels=(0, 1)):
        plan = Plan(tuple(LayerPlan(name, channels) for name in names))
        frozen, trainable, operators = cut_model(self.whole, self.model, plan)
        return frozen, *read_trainable(trainable, operators, plan)


def kept_layers(graph):
    """Short names of the tensors that are outputs beside the head."""
    return [t.name.split(";")[0] for t in graph.tensors if t.kept > 0]
