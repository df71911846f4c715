"""One BEGAN training step in NumPy float64, every backward pass by hand.

Written from the paper (arXiv 1703.10717) and Adam (arXiv 1412.6980), not from the JAX code: images
NHWC, kernels HWIO, dense (in, out). Each layer returns its output and a function `back` that
takes dL/d(output) to (dL/d(input), the gradients of its parameters).
"""

import dataclasses
import math

import numpy as np

ADAM_EPSILON = 1e-8
SIDE = 8  # pixels at the boundary of encoder and decoder


def dense(p, x):
    """y = x W + b; dx = dy Wᵀ, dW = xᵀ dy, db = Σ dy."""

    def back(dy):
        return dy @ p["kernel"].T, {"kernel": x.T @ dy, "bias": dy.sum(0)}

    return x @ p["kernel"] + p["bias"], back


def conv(p, x):
    """y[i, j] = b + Σ_{a, c ∈ 0..2} x[i + a − 1, j + c − 1] W[a, c], x zero outside the image."""
    _, height, width, _ = x.shape
    w = p["kernel"]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(a, c, np.s_[:, a : a + height, c : c + width]) for a in range(3) for c in range(3)]

    def back(dy):
        d_padded, dw = np.zeros_like(padded), np.zeros_like(w)
        for a, c, window in taps:
            d_padded[window] += dy @ w[a, c].T
            dw[a, c] = np.tensordot(padded[window], dy, ((0, 1, 2), (0, 1, 2)))
        return d_padded[:, 1:-1, 1:-1], {"kernel": dw, "bias": dy.sum((0, 1, 2))}

    return sum(padded[window] @ w[a, c] for a, c, window in taps) + p["bias"], back


def conv_elu(p, x, carry):
    """ELU(conv(x)), or for equal shapes carry · x + (1 − carry) · ELU(conv(x)).

    ELU(u) = u for u > 0, else e^u − 1; its derivative is e^min(u, 0).
    """
    u, conv_back = conv(p, x)
    y = np.where(u > 0, u, np.expm1(np.minimum(u, 0)))
    c = carry if x.shape == y.shape else 0.0

    def back(dy):
        dx, grads = conv_back((1 - c) * dy * np.exp(np.minimum(u, 0)))
        return (c * dy if c else 0) + dx, grads

    return (c * x if c else 0) + (1 - c) * y, back


def up_sample(x, factor=2):
    """Each pixel becomes factor × factor equal ones; dx is the sum over them."""
    b, h, w, n = x.shape

    def back(dy):
        return dy.reshape(b, h, factor, w, factor, n).sum((2, 4)), {}

    return x.repeat(factor, 1).repeat(factor, 2), back


def sub_sample(x):
    """The even rows and columns."""

    def back(dy):
        dx = np.zeros_like(x)
        dx[:, ::2, ::2] = dy
        return dx, {}

    return x[:, ::2, ::2], back


class Chain:
    """Layers run one after the other, so that their gradients can be taken in reverse."""

    def __init__(self, params, carry):
        self.params, self.carry, self.backs = params, carry, []

    def add(self, result, name=None):
        y, back = result
        self.backs.append((name, back))
        return y

    def hidden(self, name, x):
        return self.add(conv_elu(self.params[name], x, self.carry), name)

    def back(self, dy):
        grads = {}
        for name, back in reversed(self.backs):
            dy, layer_grads = back(dy)
            if name:
                grads[name] = layer_grads
        return dy, grads


def flatten(x):
    return x.reshape(len(x), -1), lambda dy: (dy.reshape(x.shape), {})


def num_scales(model):
    return int(math.log2(model.resolution / SIDE))


def encode(model, params, x, carry):
    """conv(3, n); per scale conv(sn, sn), conv(sn, (s+1)n), sub-sample; [fig1: 2 convs]; fc."""
    chain = Chain(params, carry)
    x = chain.hidden("conv_in", x)
    for s in range(1, num_scales(model) + 1):
        x = chain.hidden(f"scale{s}_conv1", x)
        x = chain.hidden(f"scale{s}_conv2", x)
        x = chain.add(sub_sample(x))
    if model.preset == "fig1":
        x = chain.hidden("bottom_conv1", x)
        x = chain.hidden("bottom_conv2", x)
    x = chain.add(flatten(x))
    return chain.add(dense(params["fc"], x), "fc"), chain.back


def decode(model, params, h, carry):
    """h0 = fc(h) as 8×8×n, then per scale (author, s > 1 for the skip; or fig1, after its 2 convs)

    author: [concat h0], conv, up-sample, conv;   fig1: up-sample, [concat h0], conv, conv;

    and conv(n, 3) without ELU.
    """
    b, n = len(h), model.n
    fig1 = model.preset == "fig1"
    flat, fc_back = dense(params["fc"], h)
    h0 = flat.reshape(b, SIDE, SIDE, n)
    d_h0 = np.zeros_like(h0)  # what the skips send back to h0

    def concat(x):
        h0_up, up_back = up_sample(h0, x.shape[1] // SIDE)

        def back(dy):
            d_h0[...] += up_back(dy[..., n:])[0]
            return dy[..., :n], {}

        return np.concatenate([x, h0_up], -1), back

    chain = Chain(params, carry)
    x = h0
    if fig1:
        x = chain.hidden("top_conv1", x)
        x = chain.hidden("top_conv2", x)
    for s in range(1, num_scales(model) + 1):
        if fig1:
            x = chain.add(up_sample(x))
        if model.skips and (fig1 or s > 1):
            x = chain.add(concat(x))
        x = chain.hidden(f"scale{s}_conv1", x)
        if not fig1:
            x = chain.add(up_sample(x))
        x = chain.hidden(f"scale{s}_conv2", x)
    y = chain.add(conv(params["conv_out"], x), "conv_out")

    def back(dy):
        d_h0[...] = 0
        dx, grads = chain.back(dy)
        dh, grads["fc"] = fc_back((dx + d_h0).reshape(b, -1))
        return dh, grads

    return y, back


def reconstruction_loss(model, eta, d, v, carry):
    """L(v) = mean |r|^η, r = v − D(v): the loss, `back` to (dL/dv, D's gradients), and r.

    dL/dr = η |r|^(η−1) sign(r) / size;  D(v) receives −dL/dr;  v receives dL/dr and D's share.
    """
    h, encoder_back = encode(model, d["encoder"], v, carry)
    y, decoder_back = decode(model, d["decoder"], h, carry)
    r = v - y

    def back():
        dr = eta * np.abs(r) ** (eta - 1) * np.sign(r) / r.size
        dh, decoder_grads = decoder_back(-dr)
        dv, encoder_grads = encoder_back(dh)
        return dr + dv, {"encoder": encoder_grads, "decoder": decoder_grads}

    return np.mean(np.abs(r) ** eta), back, r


def discriminator_gradients(model, eta, d, g, x, z, k, carry):
    """L_D = L(x) − k L(G(z_D)) and its gradient in D's parameters; also L(x) and the residuals."""
    fake, _ = decode(model, g, z, carry)
    real_loss, real_back, real_residual = reconstruction_loss(model, eta, d, x, carry)
    fake_loss, fake_back, fake_residual = reconstruction_loss(model, eta, d, fake, carry)
    grads = tree_map(lambda a, b: a - k * b, real_back()[1], fake_back()[1])
    return real_loss - k * fake_loss, grads, real_loss, [real_residual, fake_residual]


def generator_gradients(model, eta, d, g, z, carry):
    """L_G = L(G(z_G)) and its gradient in G's parameters; also the residual."""
    fake, generator_back = decode(model, g, z, carry)
    loss, back, residual = reconstruction_loss(model, eta, d, fake, carry)
    return loss, generator_back(back()[0])[1], residual


def tree_map(f, *trees):
    """f on the arrays of nested dicts of one structure."""
    if not isinstance(trees[0], dict):
        return f(*trees)
    assert all(tree.keys() == trees[0].keys() for tree in trees)
    return {key: tree_map(f, *(tree[key] for tree in trees)) for key in trees[0]}


def adam_moments(optim, grads, m, v):
    """m ← β1 m + (1 − β1) g;  v ← β2 v + (1 − β2) g²."""
    m = tree_map(lambda m, g: optim.b1 * m + (1 - optim.b1) * g, m, grads)
    return m, tree_map(lambda v, g: optim.b2 * v + (1 - optim.b2) * g**2, v, grads)


def adam_update(optim, params, m, v, t, learning_rate):
    """p ← p − lr · m̂ / (√v̂ + ε), m̂ = m / (1 − β1^t), v̂ = v / (1 − β2^t), t = 1 at first."""
    c1, c2 = 1 - optim.b1**t, 1 - optim.b2**t

    def update(p, m, v):
        return p - learning_rate * (m / c1) / (np.sqrt(v / c2) + ADAM_EPSILON)

    return tree_map(update, params, m, v)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The learning rate and the record of M_global that decides when it falls."""

    learning_rate: float
    best: float = math.inf
    window: tuple = ()  # M_global of the steps since the last decision

    def after(self, optim, m_global):
        """A full window whose mean is not below the best by the threshold lowers the rate."""
        window = (*self.window, m_global)
        if len(window) < optim.decay_window_steps:
            return dataclasses.replace(self, window=window)
        mean = sum(window) / len(window)
        if mean < self.best - optim.decay_threshold:
            return Plateau(self.learning_rate, mean)
        lowered = max(self.learning_rate / 2, optim.min_learning_rate)
        return Plateau(lowered, self.best)


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a step changes; the moments are pairs (m, v)."""

    step: int  # steps done
    g: dict
    d: dict
    adam_g: tuple
    adam_d: tuple
    k: float
    plateau: Plateau


def step(config, state, images, z_d, z_g):
    """One step on uint8 images: the new state and a dict of what it measured."""
    model, began, optim = config.model, config.began, config.optim
    x = images.astype(np.float64) / 255 - 0.5
    carry = max(0.0, 1 - state.step / model.carry_steps) if model.carry_steps else 0.0
    lr, t = state.plateau.learning_rate, state.step + 1

    _, grads_d, loss_real, residuals = discriminator_gradients(
        model, began.eta, state.d, state.g, x, z_d, state.k, carry
    )
    adam_d = adam_moments(optim, grads_d, *state.adam_d)
    new_d = adam_update(optim, state.d, *adam_d, t, lr)

    judge = new_d if began.alternating else state.d
    loss_fake, grads_g, residual = generator_gradients(model, began.eta, judge, state.g, z_g, carry)
    adam_g = adam_moments(optim, grads_g, *state.adam_g)
    new_g = adam_update(optim, state.g, *adam_g, t, lr)

    balance = began.gamma * loss_real - loss_fake
    m_global = loss_real + abs(balance)
    k = min(max(state.k + began.lambda_k * balance, 0.0), 1.0)
    plateau = state.plateau.after(optim, m_global)
    return State(t, new_g, new_d, adam_g, adam_d, k, plateau), {
        "loss_real": loss_real,
        "loss_fake": loss_fake,
        "k": state.k,
        "balance": balance,
        "m_global": m_global,
        "learning_rate": lr,
        "residuals": [*residuals, residual],
    }
