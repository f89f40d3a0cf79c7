#!/usr/bin/env python3
"""Writes tests/golden/*.safetensors: what PyTorch says about the lab's arithmetic.

The Rust tests in tests/lab/golden.rs replay these numbers. Everything here is PyTorch's own
(torch.nn, torch.optim, torch.autograd) or a definition copied from a paper; nothing is taken from epsweep.
Deterministic: running it again on the same kind of CPU writes the same bytes.

    python -m venv /tmp/venv-golden && /tmp/venv-golden/bin/pip install torch==2.13.0 numpy safetensors
    /tmp/venv-golden/bin/python scripts/golden_attacks.py

If torchattacks is installed too (--no-deps torchattacks torchvision timm, and requests tqdm scipy pillow),
its PGD is compared on the way; last time 100 % of the pixels agreed, to the bit. If pyautoattack is
(--no-deps), so are the attacks of golden_autoattack.py, which writes the third file.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "golden"
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)


class SmallCnn(torch.nn.Module):
    """ReLU before pooling, as it is usually written; the lab pools first, which must not matter."""

    def __init__(self, shape, channels, hidden, classes):
        super().__init__()
        kernel = 3 if min(shape[1:]) < 16 else 5
        self.conv1 = torch.nn.Conv2d(shape[0], channels[0], kernel, padding=kernel // 2)
        self.conv2 = torch.nn.Conv2d(channels[0], channels[1], kernel, padding=kernel // 2)
        self.fc1 = torch.nn.Linear(channels[1] * (shape[1] // 4) * (shape[2] // 4), hidden)
        self.fc2 = torch.nn.Linear(hidden, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def fitted(shape, channels, hidden, classes, seed):
    """A network that has learnt a few random images, so that its gradients are of ordinary size."""
    torch.manual_seed(seed)
    model = SmallCnn(shape, channels, hidden, classes)
    x, y = torch.rand(16, *shape), torch.randint(0, classes, (16,))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), x, y


def gradient(objective, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(objective(x), x)[0]


def length(t):
    return t.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def project(x, point, eps, norm):
    offset = point - x
    if norm == "linf":
        offset = offset.clamp(-eps, eps)
    else:
        offset = offset * (eps / length(offset)).clamp(max=1.0)
    return (x + offset).clamp(0, 1)


def climb(x, start, objective, eps, alpha, steps, norm):
    """Projected ascent: all iterates, the start first."""
    points = [start]
    for _ in range(steps):
        g = gradient(objective, points[-1])
        step = g.sign() if norm == "linf" else g / length(g).clamp_min(1e-12)
        points.append(project(x, points[-1] + alpha * step, eps, norm).detach())
    return torch.stack(points)


def attacks():
    model, x, y = fitted((1, 8, 8), (6, 8), 20, 10, seed=1)
    ce = lambda z: F.cross_entropy(model(z), y, reduction="sum")
    out = {f"model.{k}": v for k, v in model.state_dict().items()}
    g = gradient(ce, x)
    out |= {"x": x, "y": y.float(), "logits": model(x), "gradient": g}
    out["loss"] = F.cross_entropy(model(x), y, reduction="none")
    for norm, eps, alpha in [("linf", 0.1, 0.03), ("l2", 0.8, 0.25)]:
        points = climb(x, x, ce, eps, alpha, 8, norm)
        out[f"pgd.{norm}.points"] = points
        out[f"pgd.{norm}.loss"] = torch.stack([F.cross_entropy(model(p), y, reduction="none") for p in points])
        out[f"fgsm.{norm}"] = climb(x, x, ce, eps, eps, 1, norm)[1]
        against_torchattacks(model, x, y, norm, eps, alpha, points[-1])
    # The projection alone, with a radius per example; some points are inside their ball already.
    torch.manual_seed(2)
    radius = torch.rand(16, 1, 1, 1) * 2 + 0.05
    point = x + torch.randn(16, 1, 8, 8) * torch.linspace(0.01, 1, 16).view(-1, 1, 1, 1)
    out |= {"ball.radius": radius, "ball.point": point}
    for norm in ("linf", "l2"):
        out[f"ball.{norm}"] = project(x, point, radius, norm)
    # Three channels and 5x5 kernels, for the memory layout.
    wide, wx, wy = fitted((3, 16, 16), (4, 5), 12, 4, seed=3)
    wx, wy = wx[:6], wy[:6]
    out |= {f"wide.model.{k}": v for k, v in wide.state_dict().items()}
    out |= {"wide.x": wx, "wide.y": wy.float(), "wide.logits": wide(wx)}
    out["wide.gradient"] = gradient(lambda z: F.cross_entropy(wide(z), wy, reduction="sum"), wx)
    return out


def against_torchattacks(model, x, y, norm, eps, alpha, last):
    try:
        import torchattacks
    except ImportError:
        print(f"torchattacks is not installed; PGD {norm} not compared")
        return
    make = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
    theirs = make(model, eps=eps, alpha=alpha, steps=8, random_start=False)(x, y)
    share = ((theirs - last).abs() < 1e-5).float().mean().item()
    print(f"torchattacks PGD {norm}: {share:.2%} of the pixels agree, largest difference {(theirs - last).abs().max():.1e}")


def trades():
    """Loss and inner attack by their definition in arXiv 1901.08573; KL is batchmean as in its code."""
    model, x, y = fitted((1, 8, 8), (6, 8), 20, 10, seed=1)
    target = F.softmax(model(x), dim=1).detach()
    inner = lambda z: F.kl_div(F.log_softmax(model(z), dim=1), target, reduction="sum")
    torch.manual_seed(4)
    start = x + 0.001 * torch.randn_like(x)
    points = climb(x, start, inner, 0.1, 0.03, 4, "linf")
    beta = 6.0
    clean, adversarial = model(x), model(points[-1])
    robust = F.kl_div(F.log_softmax(adversarial, dim=1), F.softmax(clean, dim=1), reduction="sum") / len(x)
    loss = F.cross_entropy(clean, y) + beta * robust
    grads = torch.autograd.grad(loss, list(model.parameters()))
    out = {"trades.start": start, "trades.points": points, "trades.loss": loss.reshape(1)}
    out |= {f"trades.gradient.{k}": g for (k, _), g in zip(model.named_parameters(), grads)}
    return out


def optimizers():
    """Eight steps of each rule on two tensors with given gradients and a learning rate that changes."""
    torch.manual_seed(5)
    shapes = [(4, 3), (5,)]
    start = [torch.randn(s) for s in shapes]
    grads = [[torch.randn(s) for s in shapes] for _ in range(8)]
    factors = [1.0, 0.9, 0.8, 0.5, 0.5, 0.25, 0.1, 0.05]
    out = {f"start.{i}": t for i, t in enumerate(start)}
    out |= {f"grad.{n}.{i}": t for n, step in enumerate(grads) for i, t in enumerate(step)}
    out["factors"] = torch.tensor(factors)
    rules = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "sgd_decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05),
        "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4),
        "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1),
    }
    for name, make in rules.items():
        params = [torch.nn.Parameter(t.clone()) for t in start]
        optimizer = make(params)
        base = optimizer.param_groups[0]["lr"]
        for n, step in enumerate(grads):
            optimizer.param_groups[0]["lr"] = base * factors[n]
            for p, g in zip(params, step):
                p.grad = g.clone()
            optimizer.step()
            out |= {f"{name}.{n}.{i}": p.detach().clone() for i, p in enumerate(params)}
    return out


def schedules():
    """The learning rate of each of `total` steps, from 1."""
    total = 40
    make = {
        "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0),
        "step": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones=[20, 30], gamma=0.1),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=total),
        "one_cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=total, pct_start=0.3),
    }
    out = {}
    for name, build in make.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
        scheduler = build(optimizer)
        rates = []
        for step in range(total):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step + 1 < total:
                scheduler.step()
        out[f"schedule.{name}"] = torch.tensor(rates)
    return out


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    import golden_autoattack
    import golden_norms

    files = {"attacks": attacks(), "training": trades() | optimizers() | schedules()}
    files["autoattack"] = golden_autoattack.tensors()
    files["norms"] = golden_norms.tensors()
    for name, tensors in files.items():
        path = OUT / f"{name}.safetensors"
        save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, path)
        print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
