"""The deterministic parts of APGD, FAB-T and Square; called by golden_attacks.py.

Written from the papers (arXiv 2003.01690, 1907.02044, 1912.00049), then held against pyautoattack if it is
installed. Two things differ there on purpose. Its first APGD window compares the first step with a loss of
zero instead of with the start's. Its Square never puts a window at the far border, and one window serves the
whole batch.
"""

import math

import torch
import torch.nn.functional as F

from golden_attacks import fitted, gradient, length, project


def dlr(z, y):
    s = z.sort(dim=1, descending=True)[0]
    others = z.scatter(1, y[:, None], -math.inf).max(dim=1)[0]
    return -(z.gather(1, y[:, None])[:, 0] - others) / (s[:, 0] - s[:, 2] + 1e-12)


def dlr_targeted(z, y, t):
    s = z.sort(dim=1, descending=True)[0]
    gap = z.gather(1, y[:, None])[:, 0] - z.gather(1, t[:, None])[:, 0]
    return -gap / (s[:, 0] - (s[:, 2] + s[:, 3]) / 2 + 1e-12)


def checkpoints(n):
    """p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), in whole steps."""
    first, shorter, last = (max(int(share * n), 1) for share in (0.22, 0.03, 0.06))
    points, window = [first], first
    while points[-1] < n:
        window = max(window - shorter, last)
        points.append(points[-1] + window)
    return [p for p in points if p <= n]


def apgd(loss, x, start, eps, norm, n):
    """Algorithm 1 of arXiv 2003.01690: iterates, losses and step sizes, n + 1 each."""
    def ahead(point, g, step):
        move = g.sign() if norm == "linf" else g / length(g).clamp_min(1e-12)
        return project(x, point + step * move, eps, norm)

    points, losses, steps = [start], [loss(start).detach()], []
    step = torch.full((len(x), 1, 1, 1), 2.0 * eps)
    best, best_loss, best_gradient = start, losses[0], gradient(lambda z: loss(z).sum(), start)
    then, halved, gains = best_loss.clone(), torch.ones(len(x), dtype=torch.bool), torch.zeros(len(x))
    before, current, g, last = start, start, best_gradient, 0
    for i in range(n):
        steps.append(step.clone())
        share = 0.75 if i else 1.0
        z = ahead(current, g, step)
        moved = project(x, current + share * (z - current) + (1 - share) * (current - before), eps, norm).detach()
        before, current = current, moved
        value, g = loss(current).detach(), gradient(lambda z: loss(z).sum(), current)
        gains += value > losses[-1]
        points.append(current)
        losses.append(value)
        better = value > best_loss
        best = torch.where(better[:, None, None, None], current, best)
        best_gradient = torch.where(better[:, None, None, None], g, best_gradient)
        best_loss = torch.maximum(best_loss, value)
        if i + 1 in checkpoints(n):
            halve = (gains <= 0.75 * (i + 1 - last)) | (~halved & (then >= best_loss))
            step = torch.where(halve[:, None, None, None], step / 2, step)
            current = torch.where(halve[:, None, None, None], best, current)
            g = torch.where(halve[:, None, None, None], best_gradient, g)
            halved, then, gains, last = halve, best_loss.clone(), torch.zeros(len(x)), i + 1
    return {"points": torch.stack(points), "losses": torch.stack(losses), "steps": torch.stack(steps),
            "best": best, "best_loss": best_loss}


def onto_plane(x, w, b, norm):
    """The smallest change of each row of x onto w.z = b within the box, in 64 bits, by bisection."""
    x, w, b = x.double(), w.double(), b.double()
    gap = (w * x).sum(1) - b
    direction = -torch.where(gap >= 0, 1.0, -1.0)[:, None] * w.sign()
    room = torch.where(direction > 0, 1 - x, x) * (w != 0)
    speed = (w != 0).double() if norm == "linf" else w.abs()
    low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e15).double()
    for _ in range(200):
        middle = (low + high) / 2
        short = (w.abs() * torch.minimum(middle * speed, room)).sum(1, keepdim=True) < gap.abs()[:, None]
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return direction * torch.minimum(high * speed, room)


def fab(model, x, y, t, norm, n):
    """Algorithm 1 of arXiv 1907.02044, targeted: iterates after each step, and the smallest distances."""
    size = (lambda d: d.abs().amax(1)) if norm == "linf" else (lambda d: d.norm(dim=1))
    u, flat, current = torch.arange(len(x)), x.flatten(1), x
    points, nearest = [x], torch.full((len(x),), math.inf)
    for _ in range(n):
        value = lambda z: (model(z)[u, t] - model(z)[u, y])
        w = gradient(lambda z: value(z).sum(), current).flatten(1)
        b = (w.double() * current.flatten(1).double()).sum(1) - value(current).detach().double()
        d1, d2 = onto_plane(current.flatten(1), w, b, norm), onto_plane(flat, w, b, norm)
        a1, a2 = size(d1).clamp_min(1e-8), size(d2).clamp_min(1e-8)
        pull = (a1 / (a1 + a2)).clamp(0, 0.1)[:, None]
        moved = ((current.flatten(1) + 1.05 * d1) * (1 - pull) + (flat + 1.05 * d2) * pull).clamp(0, 1).float()
        fooled = (model(moved.view_as(x)).argmax(1) != y).detach()
        nearest = torch.where(fooled, torch.minimum(nearest, size(moved - flat)), nearest)
        current = torch.where(fooled[:, None], flat + 0.9 * (moved - flat), moved).view_as(x)
        points.append(current)
    return torch.stack(points), nearest


def hill(height, width):
    out = torch.zeros(height, width)
    row, column = height // 2, width // 2
    for ring in range(max(height // 2, width // 2) + 1):
        rows = slice(max(row - ring, 0), min(row + ring + 1, height))
        columns = slice(max(column - ring, 0), min(column + ring + 1, width))
        out[rows, columns] += 1 / (ring + 1) ** 2
    return out / out.norm()


def pattern(side):
    out = torch.cat([hill(side // 2, side), -hill(side - side // 2, side)])
    return out / out.norm()


def square_l2(x, best, eps, side, first, second, signs):
    """One proposal of Square under L2 for one image, with the random choices given."""
    channels, delta = len(x), best - x
    w1 = (slice(None), slice(first[0], first[0] + side), slice(first[1], first[1] + side))
    w2 = (slice(None), slice(second[0], second[0] + side), slice(second[1], second[1] + side))
    mask = torch.zeros_like(x)
    mask[w1], mask[w2] = 1, 1
    norm = lambda t: (t ** 2).sum((1, 2), keepdim=True).sqrt()
    new = pattern(side) * signs[:, None, None] + delta[w1] / (1e-12 + norm(delta[w1]))
    budget = (eps ** 2 - delta.norm() ** 2).clamp_min(0) / channels + norm(delta * mask) ** 2
    new = new / (1e-12 + norm(new)) * budget.sqrt()
    delta[w2] = 0
    delta[w1] = new
    return (x + delta / (1e-12 + delta.norm()) * eps).clamp(0, 1)


def against_pyautoattack(model, x, y, runs):
    try:
        from pyautoattack import autopgd_base, fab_projections, fab_pt, square
    except ImportError:
        print("pyautoattack is not installed; nothing compared with it")
        return
    for (name, norm, eps, n), (start, target, ours) in runs.items():
        kind = autopgd_base.APGDAttack_targeted if target is not None else autopgd_base.APGDAttack
        theirs = kind(model, n_iter=n, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, device="cpu")
        theirs.loss = {"ce": "ce", "dlr": "dlr", "targeted": "dlr-targeted"}[name]
        theirs.init_hyperparam(x)
        theirs.y_target = target
        best, _, best_loss, _ = theirs.attack_single_run(x, y, x_init=start)
        gap = (best_loss - ours["best_loss"]).abs()
        print(f"pyautoattack APGD {name} {norm}: best losses {gap.median():.1e} apart (median), {gap.max():.1e} (most)")
    torch.manual_seed(8)
    z, w, b = torch.rand(64, 40), torch.randn(64, 40), torch.randn(64) * 2
    for norm in ("linf", "l2"):
        theirs = getattr(fab_projections, f"projection_{norm}")(z, w.clone(), b.clone())
        print(f"pyautoattack projection {norm}: largest difference {(theirs - onto_plane(z, w, b, norm)).abs().max():.1e}")
        attack = fab_pt.FABAttack_PT(model, norm={"linf": "Linf", "l2": "L2"}[norm], n_iter=10, device="cpu")
        attack.target_class = 2
        found = (attack.attack_single_run(x, y, is_targeted=True) - x).flatten(1)
        sizes = found.abs().amax(1) if norm == "linf" else found.norm(dim=1)
        ours = fab(model, x, y, model(x).argsort(1)[:, -2], norm, 10)[1]
        ours[ours.isinf()] = 0  # where nothing is found it returns the clean image
        print(f"pyautoattack FAB {norm}: distances {(sizes - ours).abs().max():.1e} apart, {(ours > 0).sum()} found")
    attack = square.SquareAttack(model, norm="L2", eps=1, device="cpu", resc_schedule=False)
    for side in (3, 5, 13):
        torch.manual_seed(side)
        theirs = attack.eta(side) if side != 1 else None
        gap = min((theirs - pattern(side)).abs().max(), (theirs.T - pattern(side)).abs().max())
        print(f"pyautoattack Square pattern of side {side}: largest difference {gap:.1e}")


SOME = [0, 1, 2, 9, 20, 40]  # the iterates that are written down


def tensors():
    model, x, y = fitted((1, 8, 8), (6, 8), 20, 10, seed=1)
    y = model(x).argmax(1)  # all classified correctly, as an attack finds them
    ranking = model(x).argsort(1, descending=True)
    out = {"y": y.float(), "ranking": ranking.float(), "checkpoints": torch.tensor(checkpoints(100))}
    torch.manual_seed(6)
    z = torch.randn(16, 10) * 3
    z[0] = 0.5  # all logits equal
    out |= {"dlr.logits": z, "dlr": dlr(z, y), "dlr_targeted": dlr_targeted(z, y, ranking[:, 3])}
    runs = {}
    for norm, eps in [("linf", 0.05), ("l2", 0.4)]:
        noise = torch.rand_like(x) * 2 - 1 if norm == "linf" else torch.randn_like(x)
        noise = noise / (noise.abs().amax((1, 2, 3), keepdim=True) if norm == "linf" else length(noise))
        start = (x + eps * noise).clamp(0, 1)
        objectives = {
            "ce": (None, lambda p: F.cross_entropy(model(p), y, reduction="none")),
            "dlr": (None, lambda p: dlr(model(p), y)),
            "targeted": (ranking[:, 1], lambda p: dlr_targeted(model(p), y, ranking[:, 1])),
        }
        out[f"apgd.{norm}.start"] = start
        for name, (target, loss) in objectives.items():
            ours = apgd(loss, x, start, eps, norm, 40)
            runs[name, norm, eps, 40] = (start, target, ours.copy())
            ours["points"] = ours["points"][SOME]
            out |= {f"apgd.{norm}.{name}.{part}": tensor for part, tensor in ours.items() if part != "best"}
        points, nearest = fab(model, x, y, ranking[:, 1], norm, 10)
        out |= {f"fab.{norm}.points": points, f"fab.{norm}.nearest": nearest}
        torch.manual_seed(7)
        plane = {"point": torch.rand(30, 40), "normal": torch.randn(30, 40), "offset": torch.randn(30) * 4}
        plane["normal"][:, ::7] = 0
        out |= {f"plane.{norm}.{part}": tensor for part, tensor in plane.items()}
        out[f"plane.{norm}.change"] = onto_plane(plane["point"], plane["normal"], plane["offset"], norm)
    for side in (1, 2, 3, 5, 8, 13):
        out[f"square.pattern.{side}"] = pattern(side) if side > 1 else -torch.ones(1, 1)
    torch.manual_seed(9)
    image = torch.rand(3, 12, 12)
    best = (image + 0.1 * torch.randn(3, 12, 12)).clamp(0, 1)
    eps = float((best - image).norm()) * 1.2
    signs = torch.tensor([1.0, -1.0, 1.0])
    out |= {"square.image": image, "square.best": best, "square.eps": torch.tensor([eps])}
    # Windows apart, overlapping, and the same.
    for case, second in enumerate([(6, 6), (2, 1), (1, 0)]):
        out[f"square.proposal.{case}"] = square_l2(image, best.clone(), torch.tensor(eps), 5, (1, 0), second, signs)
    against_pyautoattack(model, x, y, runs)
    return out
