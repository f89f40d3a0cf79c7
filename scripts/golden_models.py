"""Writes tests/golden/models.safetensors: what PyTorch computes with the models of src/lab/models.

    python scripts/golden_models.py        # needs torch, numpy and safetensors

The modules below are written from the published definitions, under the names that the published state
dicts use: LeNet-5 and Madry's net as their papers' readers build them, PreActResNet-18 as in the AWP
repository, WideResNet as in the TRADES repository, the transformer as in timm. Weights are random, and so
are the running statistics, so that no tensor can be mixed up with another. Kept are the weights, a few
inputs, the logits in evaluation mode, and the logits and running statistics of one training-mode pass.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(1)


class LeNet5(nn.Module):
    def __init__(self, channels, features, classes, padding):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(features, 120), nn.Linear(120, 84), nn.Linear(84, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Madry(nn.Module):
    def __init__(self, channels, features, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
        self.fc1, self.fc2 = nn.Linear(features, 1024), nn.Linear(1024, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class PreActBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        return self.conv2(F.relu(self.bn2(out))) + shortcut


class PreActResNet18(nn.Module):
    def __init__(self, channels, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for stage in range(1, 5):
            first = PreActBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            setattr(self, f"layer{stage}", nn.Sequential(first, PreActBlock(widths[stage], widths[stage], 1)))
        self.bn = nn.BatchNorm2d(8 * width)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        x = F.relu(self.bn(x))
        return self.linear(F.avg_pool2d(x, x.shape[-1]).flatten(1))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.equal = inputs == outputs
        self.convShortcut = None if self.equal else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        if self.equal:
            out = F.relu(self.bn1(x))
        else:
            x = F.relu(self.bn1(x))
        out = F.relu(self.bn2(self.conv1(out if self.equal else x)))
        return torch.add(x if self.equal else self.convShortcut(x), self.conv2(out))


class WideStage(nn.Module):
    def __init__(self, blocks, inputs, outputs, stride):
        super().__init__()
        made = [WideBlock(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1) for i in range(blocks)]
        self.layer = nn.Sequential(*made)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, channels, depth, width, classes):
        super().__init__()
        blocks, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = WideStage(blocks, widths[0], widths[1], 1)
        self.block2 = WideStage(blocks, widths[1], widths[2], 2)
        self.block3 = WideStage(blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(F.avg_pool2d(x, x.shape[-1]).flatten(1))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = Attention(dim, heads), Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, channels, dim, patch):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    def __init__(self, channels, side, patch, dim, depth, heads, classes):
        super().__init__()
        self.patch_embed = PatchEmbed(channels, dim, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def scramble(module, generator):
    """Gives every tensor values of its own, of the size that keeps activations alive."""
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        draw = torch.rand(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            value = 0.5 + draw
        elif tensor.dim() > 1:
            fan_in = tensor[0].numel()
            value = (2 * draw - 1) * (3 / fan_in) ** 0.5
        elif "norm" in name or "bn" in name:
            value = (0.5 if name.endswith("weight") else -0.25) + draw
        else:
            value = 0.2 * (draw - 0.5)
        tensor.copy_(value)


def weights(module):
    """Where the weights are many, the test makes them itself: `(7919 i mod 1009 / 1009 - 1/2) s`, i from 0."""
    return {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


def fill(module, scale):
    """The weights of `weights`' comment: too many to be written down."""
    for name, tensor in module.state_dict().items():
        index = torch.arange(tensor.numel(), dtype=torch.int64)
        values = ((index * 7919) % 1009).double() / 1009 - 0.5
        fan_in = tensor[0].numel() if tensor.dim() > 1 else 1
        size = scale if tensor.dim() == 1 else (12 / fan_in) ** 0.5
        tensor.copy_((values * size).float().reshape(tensor.shape))


@torch.no_grad()
def main():
    generator = torch.Generator().manual_seed(11)
    # Name: the module, the images' shape, whether its weights are written down.
    models = {
        "lenet5": (LeNet5(1, 400, 10, 2), (1, 28, 28), True),
        "lenet5.rgb": (LeNet5(3, 400, 10, 0), (3, 32, 32), False),
        "madry": (Madry(1, 3136, 10), (1, 28, 28), False),
        "preactresnet18": (PreActResNet18(3, 4, 10), (3, 16, 16), True),
        "wrn": (WideResNet(3, 10, 1, 10), (3, 16, 16), True),
        "wrn.wide": (WideResNet(1, 16, 2, 4), (1, 8, 8), False),
        "vit": (VisionTransformer(1, 8, 4, 16, 2, 4, 10), (1, 8, 8), True),
    }
    out = {}
    for name, (module, shape, kept) in models.items():
        if kept:
            scramble(module, generator)
            out.update({f"{name}/weights/{key}": value.clone() for key, value in weights(module).items()})
        else:
            fill(module, 0.1)
            for key, value in module.state_dict().items():
                if key.endswith("running_var") or (("bn" in key) and key.endswith("weight")):
                    value.fill_(1.0)
        x = torch.rand((6, *shape), generator=generator)
        # Multiples of 1/255, as pixels are.
        x = (x * 255).round() / 255
        out[f"{name}/x"] = x
        out[f"{name}/logits"] = module.eval()(x)
        out[f"{name}/training/logits"] = module.train()(x)
        for key, value in module.named_buffers():
            if not key.endswith("num_batches_tracked") and kept:
                out[f"{name}/training/{key}"] = value.clone()
    target = Path(__file__).resolve().parent.parent / "tests" / "golden" / "models.safetensors"
    save_file({key: value.float().contiguous() for key, value in out.items()}, target)
    print(f"{len(out)} tensors, {target.stat().st_size} bytes in {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
