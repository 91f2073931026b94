"""The trainer's rules in float64 over the small net: what an iteration does under each setting."""

import dataclasses

import numpy as np


def views_of(image, views):
    """The image, then out[y][x] = from[clamp(y - shift_y)][clamp(x - shift_x)] for every view; from: it, or mirrored."""
    height, width = image.shape[:2]
    rows = lambda shift: np.clip(np.arange(height) - shift, 0, height - 1)
    columns = lambda shift: np.clip(np.arange(width) - shift, 0, width - 1)
    return [image] + [(image[:, ::-1] if mirrored else image)[rows(y)][:, columns(x)] for y, x, mirrored in views]


def softmax_loss(logits, label):
    p = np.exp(logits - logits.max())
    p /= p.sum()
    return -np.log(p[label]), p - np.eye(len(p))[label]


def cosine_logits(z, prototypes, scale=10.0):
    return scale * (prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)) @ z / np.linalg.norm(z)


def prototype_loss(z, prototypes, label, scale=10.0):
    unit = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    norm = np.linalg.norm(z)
    loss, d_logits = softmax_loss(scale * unit @ z / norm, label)
    d_unit = scale * d_logits @ unit
    return loss, (d_unit - z / norm * (z / norm @ d_unit)) / norm


def keras_change(optimizer, gradients, learning_rate, state):
    """What Keras' own optimizer adds to the weights, in float64."""
    if optimizer == "sgd":
        return -learning_rate * gradients
    if optimizer == "momentum":
        state["v"] = 0.9 * state.get("v", 0) - learning_rate * gradients
        return state["v"]
    if optimizer == "rmsprop":
        rho = np.float64(np.float32(0.999))
        state["v"] = rho * state.get("v", 0) + (1 - rho) * gradients**2
        return -learning_rate * gradients / np.sqrt(state["v"] + 1e-7)
    state["t"] = t = state.get("t", 0) + 1
    beta_1, beta_2 = np.float64(np.float32(0.9)), np.float64(np.float32(0.999))
    state["m"] = state.get("m", 0) + (gradients - state.get("m", 0)) * (1 - beta_1)
    state["v"] = state.get("v", 0) + (gradients**2 - state.get("v", 0)) * (1 - beta_2)
    alpha = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return -alpha * state["m"] / (np.sqrt(state["v"]) + 1e-7)


def rows_of(layer, kernel):
    """A view [output channels, weights per channel] of a kernel."""
    kernel = kernel.reshape(layer.kernel.shape)
    return kernel.reshape(-1, kernel.shape[-1]).T if layer.op == "depthwise" else kernel.reshape(len(kernel), -1)


class Reference:
    """Masters in float64, rounded to the nearest int8 and int32 for the forward pass.

    Args:
        net: tables and views; its weights stay as they are.
        images, labels: the support set.
        updates, leave_one_out, optimizer, learning_rate, skip_loss, late_prototypes: as in the trainer's settings.
    """

    def __init__(
        self,
        net,
        images,
        labels,
        *,
        updates="accumulated",
        leave_one_out=False,
        optimizer="sgd",
        learning_rate=0.1,
        skip_loss=0,
        late_prototypes=False,
    ):
        self.net, self.labels = dataclasses.replace(net, bound={}), np.asarray(labels)
        self.stored = [[net.run_frozen(view) for view in views_of(image, net.views)] for image in images]
        self.updates, self.leave_one_out = updates, leave_one_out
        self.optimizer, self.learning_rate, self.state = optimizer, learning_rate, {}
        self.skip_loss, self.late_prototypes, self.late = skip_loss, late_prototypes, None
        self.iteration = 0
        scales = [scale for index in net.trained for scale in self.scales_of(index)]
        self.scales = np.concatenate(scales)
        biases = [part == 1 for index in net.trained for part in range(len(self.scales_of(index)))]
        self.is_bias = np.concatenate([np.full(len(scale), is_bias) for scale, is_bias in zip(scales, biases)])
        for index in net.trained:
            layer = net.layers[index]
            self.net.bound[100 + index] = layer.kernel.copy()
            self.net.bound[200 + index] = None if layer.bias is None else layer.bias.copy()
        self.masters = self.scales * self.rounded()

    def scales_of(self, index):
        layer, channels = self.net.layers[index], self.net.trained[index]
        scales = layer.scales[channels].astype(np.float64)
        kernel = np.repeat(scales, rows_of(layer, layer.kernel).shape[1])
        bias = scales * float(np.float32(self.net.tensors[layer.input].scale))
        return [kernel] if layer.bias is None else [kernel, bias]

    def rounded(self, new=None):
        """Trained int8 weights and int32 biases, in the trainer's order; first replaced by `new`, if given."""
        parts, taken = [], 0
        for index, channels in self.net.trained.items():
            rows = rows_of(self.net.layers[index], self.net.bound[100 + index])
            for array in (rows, self.net.bound[200 + index]):
                if array is None:
                    continue
                if new is not None:
                    count = array[channels].size
                    array[channels] = new[taken : taken + count].reshape(array[channels].shape)
                    taken += count
                parts.append(array[channels].reshape(-1))
        return np.concatenate(parts)

    def embed(self, features):
        values = self.net.forward(features)
        return values, self.net.real(len(values) - 1, values[-1]).reshape(-1)

    def prototypes(self, embeddings):
        return np.stack([np.mean(embeddings[self.labels == k], axis=0) for k in range(self.labels.max() + 1)])

    def sample_gradient(self, sample, view, embeddings):
        """Loss and flat gradient of one sample with the weights as they are; `embeddings` of all, (N, D)."""
        label, prototypes = self.labels[sample], self.prototypes(embeddings)
        others = (self.labels == label) & (np.arange(len(self.labels)) != sample)
        if self.leave_one_out and others.any():
            prototypes[label] = embeddings[others].mean(axis=0)
        values, z = self.embed(self.stored[sample][view])
        loss, d_z = prototype_loss(z, prototypes, label) if self.net.head == "prototypes" else softmax_loss(z, label)
        found = self.net.backward(values, d_z)
        return loss, np.concatenate([part.reshape(-1) for i in self.net.trained for part in found[i] if part is not None])

    def move(self, gradient):
        self.masters = self.masters + keras_change(self.optimizer, gradient, self.learning_rate, self.state)
        q = np.round(self.masters / self.scales)
        self.rounded(np.where(self.is_bias, q, np.clip(q, -127, 127)))

    def gradient(self):
        """Mean loss and mean gradient, (loss, flat)."""
        view = 1 + self.iteration % len(self.net.views) if self.net.views else 0
        embeddings = np.stack([self.embed(views[0])[1] for views in self.stored]) if self.late is None else self.late
        results, kept = [], []
        for sample in range(len(self.labels)):
            kept.append(self.embed(self.stored[sample][view])[1])
            loss, gradient = self.sample_gradient(sample, view, embeddings)
            is_skipped = loss < self.skip_loss
            results.append((loss, gradient * (not is_skipped)))
            if self.updates == "immediate" and not is_skipped:
                self.move(gradient)
        self.late = np.stack(kept) if self.late_prototypes else None
        return np.mean([loss for loss, _ in results]), np.mean([gradient for _, gradient in results], axis=0)

    def step(self):
        """One iteration; returns its loss."""
        loss, gradient = self.gradient()
        if self.updates == "accumulated":
            self.move(gradient)
        self.iteration += 1
        return loss
