"""The deterministic parts of the L1 attacks, DDN and CW-L2; called by golden_attacks.py.

Written from the papers (arXiv 2103.01208, 1907.02044, 1912.00049, 1811.09600, 1608.04644), then held against
pyautoattack and foolbox if they are installed. pyautoattack's Square puts one window on the whole batch
and never at the far border; its L1 projection works in 32 bits.
"""

import math

import torch
import torch.nn.functional as F

from golden_attacks import fitted, gradient


def onto_l1(x, point, eps):
    """The nearest point of L1 ball and box, in 64 bits, by bisection."""
    flat, origin = point.flatten(1).double(), x.flatten(1).double()
    change = flat - origin
    room = torch.where(change > 0, 1 - origin, origin)
    kept = lambda t: torch.minimum((change.abs() - t).clamp_min(0), room)
    low, high = torch.zeros(len(x), 1).double(), change.abs().amax(1, keepdim=True)
    if not torch.is_tensor(eps):
        eps = torch.full((len(x), 1), float(eps)).double()
    for _ in range(200):
        middle = (low + high) / 2
        over = kept(middle).sum(1, keepdim=True) > eps
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    t = torch.where(kept(torch.zeros_like(high)).sum(1, keepdim=True) <= eps, 0.0, high)
    return (origin + change.sign() * kept(t)).view_as(x).float()


def apgd_l1(loss, x, start, eps, n):
    """Algorithm 2 of arXiv 2103.01208, with its schedule of radii: iterates, n + 3 of them, and losses."""
    early = math.ceil(0.3 * n)
    pixels = x[0].numel()
    spread = lambda p: (p != x).flatten(1).sum(1).float()
    points, losses, current = [], [], start
    for radius, steps in [(3 * eps, early), (2 * eps, early), (eps, n - 2 * early)]:
        current = onto_l1(x, current, radius)
        value, g = loss(current).detach(), gradient(lambda z: loss(z).sum(), current)
        points.append(current)
        losses.append(value)
        best, best_value, best_g = current, value, g
        share, old = spread(current) / pixels / 1.5, spread(current)
        step, window = torch.full((len(x),), float(radius)), max(int(0.04 * steps), 1)
        for i in range(steps):
            least = g.abs().flatten(1).sort(1)[0].gather(1, ((1 - share) * pixels).clamp(0, pixels - 1).long()[:, None])
            sparse = (g * (g.abs() >= least[:, :, None, None])).sign()
            move = sparse / sparse.abs().sum((1, 2, 3), keepdim=True).clamp_min(1e-10)
            current = onto_l1(x, current + step[:, None, None, None] * move, radius)
            value, g = loss(current).detach(), gradient(lambda z: loss(z).sum(), current)
            points.append(current)
            losses.append(value)
            better = (value > best_value)[:, None, None, None]
            best, best_g = torch.where(better, current, best), torch.where(better, g, best_g)
            best_value = torch.maximum(best_value, value)
            if (i + 1) % window == 0:
                now = spread(best)
                sparser = now / old < 0.95
                share, old = now / pixels / 1.5, now
                step = torch.where(sparser, float(radius), step / 1.5).clamp(radius / 10, radius)
                back = sparser[:, None, None, None]
                current, g = torch.where(back, best, current), torch.where(back, best_g, g)
        current = best
    return torch.stack(points), torch.stack(losses), best_value


def onto_plane(x, w, b):
    """The smallest change in L1 that takes each row onto w.z = b within the box: dearest pixels first."""
    out = torch.zeros_like(x, dtype=torch.float64)
    for row, (point, normal, offset) in enumerate(zip(x.double(), w.double(), b.double())):
        gap = float(normal @ point - offset)
        side, missing = (-1 if gap >= 0 else 1), abs(gap)
        for i in normal.abs().argsort(descending=True).tolist():
            weight = float(normal[i])
            if weight == 0 or missing <= 0:
                break
            up = side * weight > 0
            way = min(missing / abs(weight), float(1 - point[i]) if up else float(point[i]))
            out[row, i] = way if up else -way
            missing -= way * abs(weight)
    return out


def hill(height, width):
    out = torch.zeros(height, width)
    for ring in range(max(height // 2, width // 2) + 1):
        rows = slice(max(height // 2 - ring, 0), min(height // 2 + ring + 1, height))
        columns = slice(max(width // 2 - ring, 0), min(width // 2 + ring + 1, width))
        out[rows, columns] += 1 / (ring + 1) ** 4
    return out / out.abs().sum()


def pattern(side):
    out = torch.cat([hill(side // 2, side), -hill(side - side // 2, side)])
    return out / out.abs().sum()


def square_l1(x, best, eps, side, first, second, signs):
    """One proposal of Square under L1 for one image, with the random choices given."""
    channels, delta = len(x), best - x
    w1 = (slice(None), slice(first[0], first[0] + side), slice(first[1], first[1] + side))
    w2 = (slice(None), slice(second[0], second[0] + side), slice(second[1], second[1] + side))
    mask = torch.zeros_like(x)
    mask[w1], mask[w2] = 1, 1
    size = lambda t: t.abs().sum((1, 2), keepdim=True)
    new = pattern(side) * signs[:, None, None] + delta[w1] / (1e-12 + size(delta[w1]))
    wanted = ((eps - delta.abs().sum()).clamp_min(0) / channels + size(delta * mask)) * channels
    new = new / (1e-12 + size(new)) * wanted
    delta[w2] = 0
    delta[w1] = new
    return onto_l1(x[None], (x + delta)[None], float(eps))[0]


def ddn(model, x, y, steps):
    """Algorithm 1 of arXiv 1811.09600: iterates, steps + 1 of them, and the nearest adversarial distance."""
    size = lambda t: t.flatten(1).norm(dim=1)[:, None, None, None]
    delta, radius = torch.zeros_like(x), torch.ones(len(x), 1, 1, 1)
    farthest, nearest, points = size(torch.maximum(x, 1 - x)), torch.full((len(x),), math.inf), [x]
    for k in range(steps):
        stride = 0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2
        g = gradient(lambda z: F.cross_entropy(model(z), y, reduction="sum"), x + delta)
        fooled = (model(x + delta).argmax(1) != y).detach()
        nearest = torch.where(fooled, torch.minimum(nearest, size(delta).flatten()), nearest)
        radius = torch.minimum(torch.where(fooled[:, None, None, None], radius * 0.95, radius * 1.05), farthest)
        delta = delta + stride * g / size(g).clamp_min(1e-30)
        delta = (x + radius * delta / size(delta)).clamp(0, 1) - x
        points.append(x + delta)
    return torch.stack(points), nearest


def cw(model, x, y, weight, steps, lr):
    """One search of arXiv 1608.04644, sec. 6, by torch's Adam: the points of each step."""
    w = torch.atanh((2 * x.double() - 1) * 0.999999).requires_grad_()
    start = ((torch.tanh(w) + 1) / 2).detach()
    optimizer, points = torch.optim.Adam([w], lr=lr), [start.float()]
    for _ in range(steps):
        image = (torch.tanh(w) + 1) / 2
        z = model(image.float())
        gap = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -math.inf).max(1)[0]
        loss = ((image - start) ** 2).sum() + weight * gap.clamp_min(0).double().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        points.append(((torch.tanh(w) + 1) / 2).detach().float())
    return torch.stack(points)


def against_pyautoattack(model, x, y, eps):
    try:
        from pyautoattack import autopgd_base, fab_projections, square
    except ImportError:
        print("pyautoattack is not installed; nothing compared with it")
        return
    torch.manual_seed(21)
    origin, change = torch.rand(32, 1, 8, 8), torch.randn(32, 1, 8, 8)
    theirs = origin + change + autopgd_base.L1_projection(origin, change, 4.0)
    ours = onto_l1(origin, origin + change, 4.0)
    print(f"pyautoattack L1 projection: largest difference {(theirs - ours).abs().max():.1e}")
    for name in ("ce", "dlr"):
        attack = autopgd_base.APGDAttack(model, n_iter=100, norm="L1", eps=eps, device="cpu", use_largereps=True)
        attack.loss = name
        attack.init_hyperparam(x)
        torch.manual_seed(22)
        start = x + torch.randn_like(x)
        torch.manual_seed(22)
        best = attack.decr_eps_pgd(x, y, [3.0 * eps, 2.0 * eps, eps], [30, 30, 40])[2]
        from golden_autoattack import dlr
        loss = {"ce": lambda p: F.cross_entropy(model(p), y, reduction="none"), "dlr": lambda p: dlr(model(p), y)}[name]
        gap = (best - apgd_l1(loss, x, start, eps, 100)[2]).abs()
        print(f"pyautoattack APGD {name} L1: best losses {gap.median():.1e} apart (median), {gap.max():.1e} (most)")
    z, w, b = torch.rand(64, 40), torch.randn(64, 40), torch.randn(64) * 2
    theirs = fab_projections.projection_l1(z, w.clone(), b.clone())
    print(f"pyautoattack projection L1: largest difference {(theirs - onto_plane(z, w, b)).abs().max():.1e}")
    attack = square.SquareAttack(model, norm="L1", eps=1, device="cpu", resc_schedule=False)
    for side in (3, 5, 13):
        theirs = attack.eta(side)
        gap = min((theirs - pattern(side)).abs().max(), (theirs.T - pattern(side)).abs().max())
        print(f"pyautoattack Square L1 pattern of side {side}: largest difference {gap:.1e}")


def against_foolbox(model, x, y):
    try:
        import foolbox
    except ImportError:
        print("foolbox is not installed; nothing compared with it")
        return
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    found = foolbox.attacks.DDNAttack(steps=60, init_epsilon=1.0, gamma=0.05)(wrapped, x, y, epsilons=None)[1]
    gap = ((found - x).flatten(1).norm(dim=1) - ddn(model, x, y, 60)[1]).abs()
    print(f"foolbox DDN: distances {gap.median():.1e} apart (median), {gap.max():.1e} (most)")


SOME = [0, 1, 2, 9, 15, 31]  # the iterates that are written down


def tensors():
    model, x, y = fitted((1, 8, 8), (6, 8), 20, 10, seed=1)
    y = model(x).argmax(1)
    ranking, eps = model(x).argsort(1, descending=True), 2.0
    out = {"y": y.float(), "ranking": ranking.float()}
    torch.manual_seed(11)
    start = x + torch.randn_like(x)
    points, losses, _ = apgd_l1(lambda p: F.cross_entropy(model(p), y, reduction="none"), x, start, eps, 30)
    out |= {"apgd.points": points[SOME], "apgd.losses": losses}
    origin, change = torch.rand(20, 1, 8, 8), torch.randn(20, 1, 8, 8)
    out |= {"ball.origin": origin, "ball.point": origin + change, "ball.nearest": onto_l1(origin, origin + change, 4.0)}
    plane = {"point": torch.rand(30, 40), "normal": torch.randn(30, 40), "offset": torch.randn(30) * 4}
    plane["normal"][:, ::7] = 0
    out |= {f"plane.l1.{part}": tensor for part, tensor in plane.items()}
    out["plane.l1.change"] = onto_plane(plane["point"], plane["normal"], plane["offset"])
    for side in (2, 3, 5, 8, 13):
        out[f"square.pattern.{side}"] = pattern(side)
    image = torch.rand(3, 12, 12)
    best = (image + 0.1 * torch.randn(3, 12, 12)).clamp(0, 1)
    size, signs = (best - image).abs().sum() * 1.2, torch.tensor([1.0, -1.0, 1.0])
    out |= {"square.image": image, "square.best": best, "square.eps": size.reshape(1)}
    for case, second in enumerate([(6, 6), (2, 1), (1, 0)]):
        out[f"square.proposal.{case}"] = square_l1(image, best.clone(), size, 5, (1, 0), second, signs)
    out["ddn.points"], out["ddn.nearest"] = ddn(model, x, y, 20)
    out["cw.points"] = cw(model, x, y, 2.0, 20, 0.05)
    against_pyautoattack(model, x, y, eps)
    against_foolbox(model, x, y)
    return out
