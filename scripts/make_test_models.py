"""Writes the small PyTorch files that tests and examples load: tests/data/*.pt and examples/models/*.

    python scripts/make_test_models.py     # needs torch, numpy and safetensors

All take the embedded 8x8 digits: [n, 1, 8, 8] in [0,1] to 10 logits, unless the name says what is wrong.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


class Cnn(nn.Module):
    """A few hundred parameters, with batch normalisation."""

    def __init__(self, channels: int = 1, classes: int = 10):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)
        return self.fc(x.flatten(1))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Softmax(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.inner(x), 1)


class Noisy(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.1 * torch.randn_like(x))


class Pair(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor):
        return self.inner(x), x


def digits():
    table = np.loadtxt(gzip.open(ROOT / "src" / "data" / "digits.csv.gz", "rt"), delimiter=",")
    x = torch.tensor(table[:, :64] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return x, torch.tensor(table[:, 64], dtype=torch.int64)


def train(model, epochs):
    """On the first 1,347 rows. The split of epsweep is another: some of its test images were seen."""
    x, y = digits()
    x, y = x[:1347], y[:1347]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        model.eval()
        print(type(model).__name__, "accuracy", (model(x).argmax(1) == y).float().mean().item())
    return model


def main():
    torch.manual_seed(3)
    data, examples = ROOT / "tests" / "data", ROOT / "examples" / "models"
    data.mkdir(exist_ok=True), examples.mkdir(exist_ok=True)
    cnn, linear = train(Cnn(), 15), train(Linear(), 30)

    def save(model, name, folder=data):
        torch.jit.script(model).save(folder / name)

    save(cnn.eval(), "cnn.pt", examples)
    save_file({key: value.contiguous() for key, value in linear.state_dict().items()}, examples / "linear.safetensors")
    save(cnn.eval(), "cnn.pt")
    save(cnn.train(), "train_mode.pt")
    torch.jit.freeze(torch.jit.script(cnn.eval())).save(data / "frozen.pt")
    save(Cnn(channels=3).eval(), "three_channels.pt")
    save(Cnn(classes=7).eval(), "seven_classes.pt")
    save(Softmax(cnn).eval(), "softmax.pt")
    save(Noisy(linear).eval(), "random.pt")
    save(Pair(linear).eval(), "pair.pt")

    state = linear.state_dict()
    torch.save(state, data / "state_dict.pt")
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"epoch": 3, "best": 0.5, "state_dict": wrapped, "note": ["x", None, True]}, data / "checkpoint.pt")
    torch.save({"fc.weight": state["fc.weight"].half()}, data / "missing_bias.pt")
    torch.save(state, data / "legacy.pt", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
