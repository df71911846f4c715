"""The least work of a train step by formula, for preset `author` with skips and two repeats.

A multiply-add counts as two FLOPs, one with a padding's zero not at all, except in the matrix
products of "winograd". Transforms, activations, losses and optimisers, a few hundredths of the
whole, are left out.
"""

_SIDE = 8  # of the smallest maps


def step(form: str, *, resolution: int, n: int, shared_z: bool, n_h: int = 64) -> float:
    """One step's FLOPs an image, of a form of `config.model.conv`.

    With F a network's forward pass, a gradient costs another for the parameters and another for
    the input. The real images, and fakes that D alone learns from, need none for D's input. With
    one draw of z the fakes pass once through D and back.
    """
    generator = _decoder(form, resolution, n, n_h)
    first = _conv(form, resolution, 3, n)
    discriminator = first + _encoder(form, resolution, n, n_h) + generator
    if shared_z:
        return 2 * (3 * generator + 6 * discriminator - first)
    return 2 * (4 * generator + 8 * discriminator - 2 * first)


def traffic(*, resolution: int, n: int, shared_z: bool) -> float:
    """One step's map values read or written an image, were nothing read twice without need.

    A map is written once and read by the next layer; going back it is read again, and its cotangent
    written and read. Parameters, which a batch shares, are left out.
    """
    scales = [(resolution >> s, s + 1) for s in range((resolution // _SIDE).bit_length() - 1)]
    encoder = resolution**2 * n + sum(
        side**2 * s * n + (side // 2) ** 2 * (s + 1) * n for side, s in scales
    )
    decoder = _SIDE**2 * n + sum((side // 2) ** 2 * n + side**2 * n for side, _ in scales)
    decoder += 3 * resolution**2
    if shared_z:
        return 5.0 * (2 * (encoder + decoder) + decoder)
    return 5.0 * (3 * (encoder + decoder) + decoder) + 2.0 * decoder


def _encoder(form: str, resolution: int, n: int, n_h: int) -> float:
    """Multiply-adds of a pass, but for the first convolution's."""
    work, side, s = 0.0, resolution, 1
    while side > _SIDE:
        work += _conv(form, side, s * n, s * n) + _strided(form, side // 2, s * n, (s + 1) * n)
        side, s = side // 2, s + 1
    return work + _SIDE**2 * s * n * n_h


def _decoder(form: str, resolution: int, n: int, n_z: int) -> float:
    """Multiply-adds of a pass."""
    work, side = float(_SIDE**2 * n * n_z), _SIDE
    while side < resolution:
        work += _conv(form, side, n, n)
        if side > _SIDE:
            work += _upsampled(form, _SIDE, side // _SIDE, n)
        work += _upsampled(form, side, 2, n)
        side *= 2
    return work + _conv(form, resolution, n, 3)


# Each along one axis first: what the values of a row take.


def _conv(form: str, side: int, num_in: int, num_out: int) -> float:
    if form == "winograd" and min(num_in, num_out) <= 3:
        row = 3.0 * side
    elif form == "winograd" and side > _SIDE:
        row = 6 / 4 * side
    else:
        row = 3.0 * side - 2
    return row**2 * num_in * num_out


def _strided(form: str, side: int, num_in: int, num_out: int) -> float:
    """`side` is the result's."""
    row = 5 / 2 * side if form == "winograd" else 3.0 * side - 1
    return row**2 * num_in * num_out


def _upsampled(form: str, side: int, factor: int, n: int) -> float:
    """`side` is that of the map that is read."""
    if form == "plain":
        row = 3.0 * factor * side - 2
    elif form == "phases":
        row = (4.0 if factor == 2 else 5.0) * side - 2
    elif form == "transposed":
        row = (factor + 2.0) * side - 2
    else:
        row = 3.0 * side
    return row**2 * n**2
