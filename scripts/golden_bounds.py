"""Reference bounds for tests/lab/certify.rs: IBP and CROWN written out plainly, in 64 bits.

Every layer is turned into a dense matrix by applying it to the identity, and every max pooling into
an explicit list of windows; no code is shared with the program. Run:

    python3 scripts/golden_bounds.py      (needs torch, numpy, safetensors)
"""
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(3)
OUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "bounds.safetensors"
SIDE, CLASSES, IMAGES = 8, 3, 4


def networks():
    mlp = [nn.Flatten(), nn.Linear(SIDE * SIDE, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES)]
    cnn = [
        nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 4, 10), nn.ReLU(), nn.Linear(10, CLASSES),
    ]
    return {"mlp": mlp, "smallcnn": cnn}


def names(layers):
    """The checkpoint's names of the layers with weights."""
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    weighted = [layer for layer in layers if hasattr(layer, "weight")]
    return {
        id(layer): f"conv{i + 1}" if i < convolutions else f"fc{i - convolutions + 1}" for i, layer in enumerate(weighted)
    }


def program(layers):
    """Each layer as ('affine', matrix, offset), ('relu',) or ('max', windows); shapes flattened."""
    shape, steps = (1, SIDE, SIDE), []
    for layer in layers:
        size = int(np.prod(shape))
        if isinstance(layer, nn.Flatten):
            shape = (size,)
        elif isinstance(layer, nn.ReLU):
            steps.append(("relu",))
        elif isinstance(layer, nn.MaxPool2d):
            index = np.arange(size).reshape(shape)
            windows = [
                index[c, 2 * i:2 * i + 2, 2 * j:2 * j + 2].ravel().tolist()
                for c in range(shape[0]) for i in range(shape[1] // 2) for j in range(shape[2] // 2)
            ]
            steps.append(("max", windows))
            shape = (shape[0], shape[1] // 2, shape[2] // 2)
        else:
            with torch.no_grad():
                offset = layer(torch.zeros(1, *shape, dtype=torch.float64))
                matrix = layer(torch.eye(size, dtype=torch.float64).view(size, *shape)) - offset
            steps.append(("affine", matrix.flatten(1).T.numpy(), offset.flatten().numpy()))
            shape = tuple(offset.shape[1:])
    return steps


def interval(step, low, high):
    if step[0] == "affine":
        _, matrix, offset = step
        plus, minus = np.maximum(matrix, 0), np.minimum(matrix, 0)
        return plus @ low + minus @ high + offset, plus @ high + minus @ low + offset
    if step[0] == "relu":
        return np.maximum(low, 0), np.maximum(high, 0)
    return np.array([low[w].max() for w in step[1]]), np.array([high[w].max() for w in step[1]])


def back(step, weights, offset, low, high):
    """One function `weights @ output + offset`, bounded from below by one of the input."""
    if step[0] == "affine":
        return weights @ step[1], offset + weights @ step[2]
    result = np.zeros(len(low))
    if step[0] == "relu":
        for i, w in enumerate(weights):
            if low[i] >= 0:
                result[i] += w
            elif high[i] > 0 and w >= 0:
                result[i] += w if high[i] > -low[i] else 0.0
            elif high[i] > 0:
                slope = high[i] / (high[i] - low[i])
                result[i] += w * slope
                offset -= w * slope * low[i]
        return result, offset
    for window, w in zip(step[1], weights):
        if w >= 0:
            result[max(window, key=lambda i: low[i] + high[i])] += w
            continue
        top, second = sorted(window, key=lambda i: -high[i])[:2]
        level = max(high[second], low[window].max())
        slope = (high[top] - level) / (high[top] - low[top]) if high[top] > low[top] else 0.0
        result[top] += w * slope
        offset += w * (level - slope * low[top])
    return result, offset


def smallest(weights, offset, low, high):
    return np.maximum(weights, 0) @ low + np.minimum(weights, 0) @ high + offset


def lowest(steps, bounds, weights, crown):
    best, offset = smallest(weights, 0.0, *bounds[len(steps)]), 0.0
    for step, at in reversed(list(zip(steps, bounds))):
        if not crown and step[0] != "affine":
            break
        weights, offset = back(step, weights, offset, *at)
        best = max(best, smallest(weights, offset, *at))
    return best


def margins(steps, image, label, epsilon, crown):
    radius = max(epsilon, float(np.float32(epsilon))) * (1 + 2e-6) + 2e-7
    bounds = [(np.clip(image - radius, 0, 1), np.clip(image + radius, 0, 1))]
    for position, step in enumerate(steps):
        low, high = bounds[position]
        if crown and step[0] != "affine" and any(s[0] != "affine" for s in steps[:position]):
            below = [lowest(steps[:position], bounds, row, True) for row in np.eye(len(low))]
            above = [-lowest(steps[:position], bounds, -row, True) for row in np.eye(len(low))]
            bounds[position] = (np.maximum(low, below), np.minimum(high, above))
        bounds.append(interval(step, *bounds[position]))
    found = []
    for other in range(CLASSES):
        row = np.zeros(CLASSES)
        row[label] += 1
        row[other] -= 1
        found.append(np.inf if other == label else lowest(steps, bounds, row, crown))
    return found


def main():
    tensors = {"images": torch.rand(IMAGES, 1, SIDE, SIDE), "labels": torch.tensor([0, 1, 2, 0])}
    epsilons = [0.0, 0.01, 0.05, 0.2]
    for name, layers in networks().items():
        called = names(layers)
        for layer in layers:
            if id(layer) in called:
                tensors[f"{name}.{called[id(layer)]}.weight"] = layer.weight.detach().clone()
                tensors[f"{name}.{called[id(layer)]}.bias"] = layer.bias.detach().clone()
            layer.double()
        steps = program(layers)
        for method in ["ibp", "crown"]:
            found = [
                margins(steps, image.double().flatten().numpy(), int(label), epsilon, method == "crown")
                for image, label, epsilon in zip(tensors["images"], tensors["labels"], epsilons)
            ]
            tensors[f"{name}.{method}"] = torch.tensor(found, dtype=torch.float64)
    save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, OUT)


if __name__ == "__main__":
    main()
