"""BEGAN in PyTorch, as public code writes its step and as well as it can be written.

The network is preset `author` with skips (docs/paper.md), the initial weights PyTorch's own: the
time does not depend on them. Both steps take one draw of z for both losses or two.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

_BOTTLENECK = 8
_N_Z = 64
_GAMMA, _LAMBDA_K, _LEARNING_RATE = 0.5, 0.001, 1e-4

Step = Callable[[Tensor], None]


def _conv(num_in: int, num_out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(num_in, num_out, 3, stride, 1), nn.ELU(inplace=True))


class Encoder(nn.Module):
    """Images (B, 3, R, R) to codes (B, 64)."""

    def __init__(self, resolution: int, n: int):
        super().__init__()
        layers = [_conv(3, n)]
        num_scales = (resolution // _BOTTLENECK).bit_length() - 1
        for s in range(1, num_scales + 1):
            layers += [_conv(s * n, s * n), _conv(s * n, (s + 1) * n, stride=2)]
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(_BOTTLENECK**2 * (num_scales + 1) * n, _N_Z)

    def forward(self, x: Tensor) -> Tensor:
        """x → h."""
        return self.fc(self.layers(x).flatten(1))


class Decoder(nn.Module):
    """Codes (B, 64) to images (B, 3, R, R); the generator too."""

    def __init__(self, resolution: int, n: int):
        super().__init__()
        self.n = n
        num_scales = (resolution // _BOTTLENECK).bit_length() - 1
        self.fc = nn.Linear(_N_Z, _BOTTLENECK**2 * n)
        self.first = nn.ModuleList([_conv(n if s == 0 else 2 * n, n) for s in range(num_scales)])
        self.second = nn.ModuleList([_conv(n, n) for _ in range(num_scales)])
        self.out = nn.Conv2d(n, 3, 3, 1, 1)

    def forward(self, h: Tensor) -> Tensor:
        """h or z → image."""
        h0 = self.fc(h).view(-1, self.n, _BOTTLENECK, _BOTTLENECK)
        x = h0
        for s, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            if s > 0:
                skip = functional.interpolate(h0, scale_factor=2**s, mode="nearest")
                x = torch.cat([x, skip], 1)
            x = second(functional.interpolate(first(x), scale_factor=2, mode="nearest"))
        return self.out(x)


def _networks(resolution: int, n: int) -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(Encoder(resolution, n), Decoder(resolution, n)), Decoder(resolution, n)


def _latents(batch: int, device: torch.device) -> Tensor:
    return torch.rand(batch, _N_Z, device=device) * 2 - 1


def _to_float(images: Tensor) -> Tensor:
    """uint8 (B, R, R, 3) to float (B, 3, R, R) in [−0.5, 0.5]; channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255.0 - 0.5


def _mixed(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Computes convolutions in `dtype`; parameters and losses stay float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def public_step(
    resolution: int, n: int, *, shared_z: bool, dtype: torch.dtype, device: torch.device
) -> Step:
    """Eager, channels first, D's and G's losses one after the other, k a Python number.

    G's pass leaves gradients in D that the next `zero_grad` drops, as in public code.
    """
    discriminator, generator = (net.to(device) for net in _networks(resolution, n))
    optimizer_d, optimizer_g = (
        torch.optim.Adam(net.parameters(), _LEARNING_RATE) for net in (discriminator, generator)
    )
    k = 0.0

    def step(images: Tensor) -> None:
        nonlocal k
        x = _to_float(images).contiguous()
        optimizer_d.zero_grad()
        with _mixed(dtype, device):
            fake = generator(_latents(len(x), device)).float()
            loss_real = (discriminator(x) - x).abs().mean()
            loss_fake = (discriminator(fake.detach()) - fake.detach()).abs().mean()
        (loss_real - k * loss_fake).backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        with _mixed(dtype, device):
            if not shared_z:
                fake = generator(_latents(len(x), device)).float()
            loss_g = (discriminator(fake) - fake).abs().mean()
        loss_g.backward()
        optimizer_g.step()
        k += _LAMBDA_K * (_GAMMA * loss_real.item() - loss_g.item())
        k = min(max(k, 0.0), 1.0)

    return step


def best_step(
    resolution: int, n: int, *, shared_z: bool, dtype: torch.dtype, device: torch.device
) -> Step:
    """Channels last, `torch.compile`, fused Adam, no host reads; no gradient that is not used.

    With one draw L(G(z)) is differentiated once, for D's parameters and the fakes together, as in
    `began_jax/gradients.py`.
    """
    discriminator, generator = (
        net.to(device, memory_format=torch.channels_last) for net in _networks(resolution, n)
    )
    params_d, params_g = list(discriminator.parameters()), list(generator.parameters())
    optimizer_d, optimizer_g = (
        torch.optim.Adam(params, _LEARNING_RATE, fused=True) for params in (params_d, params_g)
    )
    k = torch.zeros((), device=device)

    @torch.compile
    def generate(z: Tensor) -> Tensor:
        with _mixed(dtype, device):
            return generator(z).float()

    @torch.compile
    def error(v: Tensor) -> Tensor:
        with _mixed(dtype, device):
            return (discriminator(v) - v).abs().mean()

    def step(images: Tensor) -> None:
        x = _to_float(images)
        loss_real = error(x)
        grads_d = torch.autograd.grad(loss_real, params_d)
        if shared_z:
            fake = generate(_latents(len(x), device))
            judged = fake.detach().requires_grad_()
            loss_g = error(judged)
            bar, *grads_fake = torch.autograd.grad(loss_g, [judged, *params_d])
        else:
            with torch.no_grad():
                fake = generate(_latents(len(x), device))
            grads_fake = torch.autograd.grad(error(fake), params_d)
            fake = generate(_latents(len(x), device))
            judged = fake.detach().requires_grad_()
            discriminator.requires_grad_(False)  # a compiled backward pass computes what it may
            loss_g = error(judged)
            (bar,) = torch.autograd.grad(loss_g, [judged])
            discriminator.requires_grad_(True)
        grads_g = torch.autograd.grad(fake, params_g, bar)
        for parameter, real, of_fake in zip(params_d, grads_d, grads_fake, strict=True):
            parameter.grad = real - k * of_fake
        for parameter, grad in zip(params_g, grads_g, strict=True):
            parameter.grad = grad
        optimizer_d.step()
        optimizer_g.step()
        k.add_(_LAMBDA_K * (_GAMMA * loss_real.detach() - loss_g.detach())).clamp_(0, 1)

    return step
