#!/usr/bin/env python3
"""Writes tests/golden/methods.safetensors: training methods as PyTorch loops.

Each loop follows the paper, and its authors' code where the two differ in constants:
MART (Wang et al., ICLR 2020), AWP (arXiv 2004.05884), Fast-AT (arXiv 2001.03994), Free-AT (arXiv 1904.12843),
interval bounds (arXiv 1810.12715). Nothing is taken from epsweep but the start noise, which the test
`golden_methods::noise` (`cargo test --test lab write_noise -- --ignored`) writes to tests/golden/noise.safetensors.

    /tmp/venv-golden/bin/python scripts/golden_training.py
"""

import copy

import torch
import torch.nn.functional as F
from golden_attacks import OUT, fitted, project
from safetensors.torch import load_file, save_file

LR, MOMENTUM, EPS = 0.05, 0.9, 0.1


def start():
    model, x, y = fitted((1, 8, 8), (6, 8), 20, 10, seed=1)
    return model, x, y, torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)


def weights(model, name):
    return {f"{name}.{k}": v.detach().clone() for k, v in model.state_dict().items()}


def ascend(model, x, y, point, eps, alpha, steps):
    for _ in range(steps):
        point = point.detach().requires_grad_()
        g = torch.autograd.grad(F.cross_entropy(model(point), y), point)[0]
        point = project(x, point + alpha * g.sign(), eps, "linf")
    return point.detach()


def mart_loss(model, x, x_adv, y, beta):
    logits, adv = model(x), model(x_adv)
    p_adv = F.softmax(adv, dim=1)
    top = torch.argsort(p_adv, dim=1)[:, -2:]
    wrong = torch.where(top[:, -1] == y, top[:, -2], top[:, -1])
    boosted = F.cross_entropy(adv, y) + F.nll_loss(torch.log(1.0001 - p_adv + 1e-12), wrong)
    p_nat = F.softmax(logits, dim=1)
    true = torch.gather(p_nat, 1, y.unsqueeze(1)).squeeze(1)
    kl = torch.sum(F.kl_div(torch.log(p_adv + 1e-12), p_nat, reduction="none"), dim=1)
    return boosted + beta * (1.0 / len(x)) * torch.sum(kl * (1.0000001 - true))


def trades_loss(model, x, x_adv, y, beta):
    clean = model(x)
    kl = F.kl_div(F.log_softmax(model(x_adv), dim=1), F.softmax(clean, dim=1), reduction="sum") / len(x)
    return F.cross_entropy(clean, y) + beta * kl


def update(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach().reshape(1)


def mart(noise):
    model, x, y, optimizer = start()
    points = ascend(model, x, y, x + 0.001 * noise["normal"], EPS, 0.03, 4)
    out = {"mart.points": points, "mart.loss": update(optimizer, mart_loss(model, x, points, y, 6.0))}
    return out | weights(model, "mart.after")


def perturbed(model, loss, gamma):
    """The authors' AdvWeightPerturb: a proxy takes one step uphill; its way, rescaled, is added."""
    proxy = copy.deepcopy(model)
    proxy_optimizer = torch.optim.SGD(proxy.parameters(), lr=0.01)
    proxy_optimizer.zero_grad()
    (-loss(proxy)).backward()
    proxy_optimizer.step()
    ways = {}
    for (name, old), (_, new) in zip(model.state_dict().items(), proxy.state_dict().items()):
        if old.dim() > 1 and "weight" in name:
            diff = new - old
            ways[name] = old.norm() / (diff.norm() + 1e-20) * diff
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in ways:
                parameter.add_(gamma * ways[name])
    return ways


def awp(noise):
    out = {}
    losses = {
        "pgd": lambda m, x, p, y: F.cross_entropy(m(p), y),
        "trades": lambda m, x, p, y: trades_loss(m, x, p, y, 6.0),
        "mart": lambda m, x, p, y: mart_loss(m, x, p, y, 6.0),
    }
    gamma = 0.01
    for name, loss in losses.items():
        model, x, y, optimizer = start()
        points = ascend(model, x, y, x + 0.001 * noise["normal"], EPS, 0.03, 4)
        ways = perturbed(model, lambda m: loss(m, x, points, y), gamma)
        out |= weights(model, f"awp.{name}.at")
        out[f"awp.{name}.loss"] = loss(model, x, points, y).detach().reshape(1)
        optimizer.zero_grad()
        loss(model, x, points, y).backward()
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter_name in ways:
                    parameter.sub_(gamma * ways[parameter_name])
        optimizer.step()
        out |= weights(model, f"awp.{name}.after")
    out["awp.points"] = points
    return out


def fast(noise):
    model, x, y, optimizer = start()
    losses = []
    for _ in range(3):
        delta = (EPS * noise["uniform"]).clone()
        delta.data = torch.max(torch.min(1 - x, delta.data), 0 - x)
        delta.requires_grad = True
        F.cross_entropy(model(x + delta), y).backward()
        grad = delta.grad.detach()
        delta.data = torch.clamp(delta + 1.25 * EPS * torch.sign(grad), -EPS, EPS)
        delta.data = torch.max(torch.min(1 - x, delta.data), 0 - x)
        losses.append(update(optimizer, F.cross_entropy(model(x + delta.detach()), y)))
    return {"fast.losses": torch.cat(losses)} | weights(model, "fast.after")


def free():
    """Two batches of 10 and 6 examples, three replays each; the perturbation outlives the batch."""
    model, x, y, optimizer = start()
    delta = torch.zeros(10, 1, 8, 8)
    losses, way = [], []
    for first, last in [(0, 10), (10, 16)]:
        images, labels = x[first:last], y[first:last]
        for _ in range(3):
            held = delta[: last - first].clone().requires_grad_()
            optimizer.zero_grad()
            loss = F.cross_entropy(model((images + held).clamp(0, 1)), labels)
            loss.backward()
            delta[: last - first] += EPS * held.grad.sign()
            delta.clamp_(-EPS, EPS)
            optimizer.step()
            losses.append(loss.detach().reshape(1))
            way.append(delta.clone())
    return {"free.losses": torch.cat(losses), "free.deltas": torch.stack(way)} | weights(model, "free.after")


def intervals():
    """Centre and radius through every layer, written for this one network."""
    model, x, y, optimizer = start()
    out = {}
    kappa = 0.7
    for eps in (0.02, 0.1):
        low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
        for name, layer in model.named_children():
            if name == "fc1":
                low, high = low.flatten(1), high.flatten(1)
            centre, radius = (low + high) / 2, (high - low) / 2
            if isinstance(layer, torch.nn.Conv2d):
                c, r = layer(centre), F.conv2d(radius, layer.weight.abs(), padding=layer.padding)
            elif name == "fc2":
                break
            else:
                c, r = layer(centre), F.linear(radius, layer.weight.abs())
            low, high = F.relu(c - r), F.relu(c + r)
            if isinstance(layer, torch.nn.Conv2d):
                low, high = F.max_pool2d(low, 2), F.max_pool2d(high, 2)
        last = model.fc2
        c, r = last((low + high) / 2), F.linear((high - low) / 2, last.weight.abs())
        out |= {f"ibp.{eps}.lower": c - r, f"ibp.{eps}.upper": c + r}
        worst = []
        for target in range(10):
            row = last.weight[target] - last.weight[y]
            offset = last.bias[target] - last.bias[y]
            worst.append((row * (low + high) / 2).sum(1) + (row.abs() * (high - low) / 2).sum(1) + offset)
        out[f"ibp.{eps}.worst"] = torch.stack(worst, dim=1)
    loss = kappa * F.cross_entropy(model(x), y) + (1 - kappa) * F.cross_entropy(out["ibp.0.1.worst"], y)
    out["ibp.loss"] = update(optimizer, loss)
    return out | weights(model, "ibp.after")


def smoothing():
    model, x, y, _ = start()
    return {"smooth.loss": F.cross_entropy(model(x), y, label_smoothing=0.2).reshape(1)}


def main():
    noise = load_file(OUT / "noise.safetensors")
    tensors = mart(noise) | awp(noise) | fast(noise) | free() | intervals() | smoothing()
    path = OUT / "methods.safetensors"
    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, path)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
