"""The brush of `synthetic_faces`: factors in, float RGB canvases out."""

from typing import NamedTuple

import numpy as np

# The frame shows scene coordinates u (right) and v (down) in [-_EXTENT, _EXTENT].
_EXTENT = 0.91

_SKIN = ((250, 216, 192), (240, 194, 160), (212, 160, 122), (160, 106, 74), (98, 64, 48))
_HAIR = (
    *((24, 21, 24), (56, 40, 32), (94, 64, 46), (138, 80, 52)),
    *((172, 128, 78), (222, 182, 114), (226, 220, 212)),
)
_EYES = ((62, 36, 22), (120, 80, 36), (84, 124, 70), (70, 128, 190))

# One row per hair style: outline radius and bottom, lower end of the front and of the back, the
# face opening's centre y, half width, half height, squareness, hairline's slant, opacity.
_STYLES = np.array(
    [
        (0.40, -0.1, -0.90, -0.9, 0.20, 0.90, 1.50, 0.0, 0.00, 0.0),
        (0.63, -0.1, -0.02, 0.10, 0.20, 0.54, 0.66, 0.5, 0.00, 0.9),
        (0.68, -0.1, 0.06, 0.20, 0.22, 0.52, 0.62, 0.2, 0.38, 1.0),
        (0.72, 0.30, 0.62, 0.70, 0.30, 0.48, 0.56, 1.0, 0.00, 1.0),
        (0.72, 1.50, 2.00, 2.00, 0.40, 0.50, 0.90, 0.0, -0.10, 1.0),
        (0.88, -0.1, 0.40, 1.00, 0.20, 0.52, 0.58, 0.2, 0.00, 1.0),
        (0.68, -0.1, -0.24, -0.2, 1.20, 3.00, 1.50, 0.0, 0.00, 1.0),
    ],
    np.float32,
)
_BEANIE = 6

_Factors = dict[str, np.ndarray]  # Each factor by name, (n, 1, 1).


class _Head(NamedTuple):
    """Per-pixel frames (n, rows, side): the head's x, y; the turned face's x; the normal's x, z;
    the distance from the centre, 1 at the outline."""

    x: np.ndarray
    y: np.ndarray
    face_x: np.ndarray
    normal_x: np.ndarray
    normal_z: np.ndarray
    radius: np.ndarray


def paint(factors: dict[str, np.ndarray], side: int) -> np.ndarray:
    """Paints faces back to front.

    Args:
      factors: each of `synthetic_faces.FACTORS` by name, float32 (n,).
      side: height and width in pixels.

    Returns:
      float32 (3, n, side, side), RGB in about [0, 1].
    """
    p = {name: values[:, None, None] for name, values in factors.items()}
    pixel = 2 * _EXTENT / side
    axis = (np.arange(side, dtype=np.float32) + 0.5) * pixel - _EXTENT
    u, v = axis[None, None, :], axis[None, :, None]
    head = _pose(p, u, v)
    hair = _style_hair(p, head, pixel)
    canvas = _background(p, u, v)
    _paint_body(canvas, p, head, hair, u, v, pixel)
    _paint_skin(canvas, p, head, hair, pixel)
    # Each feature stays inside its band of rows whatever the pose; the rest is not computed.
    upper, lower = _band(-0.62, 0.42, side), _band(0.1, 0.9, side)
    eyes = _Head(*(field[:, upper] for field in head))
    mouth = _Head(*(field[:, lower] for field in head))
    _paint_eyes(canvas[:, :, upper], p, eyes, pixel)
    _paint_mouth(canvas[:, :, lower], p, mouth, pixel)
    _paint(canvas, hair.rgb, hair.front)
    _paint_glasses(canvas[:, :, upper], p, eyes, pixel)
    return canvas


def _pose(p: _Factors, u: np.ndarray, v: np.ndarray) -> _Head:
    half = 0.123 * p["tilt"]  # Tangent of half the angle: a rotation without sin and cos.
    sine, cosine = 2 * half / (1 + half * half), (1 - half * half) / (1 + half * half)
    pivot_v = np.float32(0.7)
    x = cosine * (u - 0.09 * p["yaw"]) + sine * (v - pivot_v)
    y = cosine * (v - pivot_v) - sine * u + pivot_v
    shape = p["face_shape"]
    jaw = np.maximum(y, 0.0)
    normal_x = x / ((0.50 + 0.09 * shape) * (1 - (0.62 - 0.4 * shape) * jaw * jaw))
    normal_y = y / (0.78 - 0.06 * shape)
    squared = normal_x * normal_x + normal_y * normal_y
    normal_z = np.sqrt(np.maximum(1 - squared, 0.0))
    # The face is a texture on an ellipsoid turned by yaw, so its far half is foreshortened.
    sine = 0.44 * p["yaw"]
    face_x = 0.55 * (normal_x * np.sqrt(1 - sine * sine) - normal_z * sine)
    return _Head(x, y, face_x, normal_x, normal_z, np.sqrt(squared))


class _Hair(NamedTuple):
    """Hair or hat: masks behind and before the head, shadow on the skin, RGB (3, n, ...)."""

    back: np.ndarray
    front: np.ndarray
    shadow: np.ndarray
    rgb: np.ndarray


def _style_hair(p: _Factors, head: _Head, pixel: float) -> _Hair:
    style = p["hair_style"].astype(np.int64)
    radius, bottom, front_end, back_end, *opening, opacity = np.moveaxis(_STYLES[style], -1, 0)
    centre, half_x, half_y, square, slant = opening
    beanie = (style == _BEANIE).astype(np.float32)
    brim = beanie * _cover(-0.42 - head.y, 0.05)
    soft = pixel + 0.03
    # The outline is a capsule about the skull: long hair is a long capsule.
    across = head.x * 1.06
    along = head.y - np.clip(head.y, 0.6 * radius - 0.572, bottom)
    from_axis = np.sqrt(across * across + along * along)
    outline = _cover(from_axis - radius - 0.03 * brim, soft) * opacity
    gx = head.face_x / half_x
    gy = (head.y - centre + slant * head.face_x) / half_y
    gx, gy = gx * gx, gy * gy
    around = np.sqrt(gx + gy + square * (np.sqrt(gx * gx + gy * gy) - gx - gy)) - 1
    end_soft = 0.1 - 0.07 * beanie
    front = outline * _cover(-0.5 * around, soft + 0.03) * _cover(head.y - front_end, end_soft)
    back = outline * _cover(head.y - back_end, end_soft)
    shadow = _bump(np.minimum(around, 0.0) * 4.0) * opacity
    # Strands (ribs of the hat) fade before they are too fine for the pixels and alias.
    strand = (7.3 * head.face_x + 1.7 * head.y) % 1 - 0.5
    strand = (strand * strand - 1 / 12) * max(0.0, 0.6 - 8 * pixel)
    lit = head.normal_x * 0.55 * p["light"] - 0.35 * head.y
    ring = _bump((from_axis / radius - 0.72) * 4.5) * (1 - brim)
    rgb = _ramp(_HAIR, p["hair_tone"])
    rgb = rgb + beanie * (_hue(p["clothing_hue"] + 0.4, 0.55, 0.72) - rgb)
    rgb = rgb * (0.82 + 0.5 * lit + strand - 0.22 * brim) + ring * (0.10 + 0.08 * lit)
    return _Hair(back, front, shadow, rgb)


def _background(p: _Factors, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    light = p["background_light"]
    rgb = _hue(p["background_hue"], 0.55 - 0.27 * light, 0.1 + 0.92 * light)
    glow = (u - 0.5 * p["light"]) * (u - 0.5 * p["light"]) + (v + 0.3) * (v + 0.3)
    return rgb * (1.1 - 0.17 * glow)


def _paint_body(
    canvas: np.ndarray,
    p: _Factors,
    head: _Head,
    hair: _Hair,
    u: np.ndarray,
    v: np.ndarray,
    pixel: float,
) -> None:
    _paint(canvas, hair.rgb * 0.62, hair.back)
    soft = pixel + 0.02
    skin = _ramp(_SKIN, p["skin_tone"])
    rows = _band(0.3, _EXTENT, v.shape[1])
    v, x, low = v[:, rows], head.x[:, rows], canvas[:, :, rows]
    neck = np.abs(0.5 * (x + u)) - 0.27 - 0.1 * np.maximum(v - 0.8, 0.0)
    neck = np.maximum(neck, 0.4 - v)  # It ends behind the head.
    _paint(low, skin * (0.30 + 0.35 * v + 0.2 * p["light"] * u) * _tint(0.9), _cover(neck, soft))
    shoulder = np.sqrt(u * u + 2.2 * (v - 1.39) * (v - 1.39)) - 1.0
    collar = 0.3 - np.sqrt(u * u + 1.8 * (v - 0.66) * (v - 0.66))
    cloth = _hue(p["clothing_hue"], 0.55, 0.62)
    shade = 0.85 + 0.5 * p["light"] * u - 0.5 * np.abs(collar + 0.1)
    _paint(low, cloth * shade, _cover(np.maximum(shoulder, collar), soft))


def _paint_skin(canvas: np.ndarray, p: _Factors, head: _Head, hair: _Hair, pixel: float) -> None:
    soft = pixel + 0.015
    base = _ramp(_SKIN, p["skin_tone"])
    ear_x = (np.abs(head.x + 0.04 * p["yaw"]) - 0.53 - 0.08 * p["face_shape"]) / 0.09
    ear_y = (head.y - 0.03) / 0.16
    ear = np.sqrt(ear_x * ear_x + ear_y * ear_y) - 1
    _paint(canvas, base * _tint(0.62), _cover(ear * 0.11, soft))
    x, y = head.face_x, head.y
    light = p["light"]
    # Nose and eye sockets bend the normal instead of being drawn: the light shows them.
    nose_w = 0.07 + 0.09 * np.clip(y + 0.1, 0.0, 0.35)
    nose = x / nose_w * _bump(x / (2 * nose_w)) * _bump((y - 0.06) * 3.4)
    lit = 0.72 * light * (head.normal_x + 1.1 * nose) - 0.2 * y + 0.66 * head.normal_z
    side = np.abs(x) - 0.235
    socket = _bump2(side * 4.2, (y + 0.08) * 5.0)
    under = _bump2(x * 7.5, (y - 0.30) * 14.0) + 0.6 * _bump2(x * 4.0, (y - 0.62) * 14.0)
    tip = _bump2((x - 0.03 * light) * 13.0, (y - 0.20) * 11.0)
    cheek = _bump2(side * 4.5, (y - 0.24) * 4.5)
    shade = 0.46 + 0.76 * lit - 0.2 * socket - 0.2 * under + 0.08 * tip + 0.05 * cheek
    shade = np.clip(shade - 0.22 * hair.shadow, 0.0, 1.3)
    shade = shade * (1.32 - 0.36 * shade)  # A soft shoulder, so that pale skin does not clip.
    rgb = base * (_tint(0.32) + (1.08 - _tint(0.32)) * shade)
    rgb[0] += 0.05 * cheek
    beard = p["beard"]
    clean_x, clean_y = x / 0.45, (y + 0.02) / 0.37
    edge = 1 - np.sqrt(clean_x * clean_x + clean_y * clean_y)
    alpha = _cover(edge, 0.28) * _cover(-0.02 - y, 0.3) * (0.46 * beard)
    rgb += alpha * (_ramp(_HAIR, p["hair_tone"]) * (0.35 + 0.6 * shade) - rgb)
    _paint(canvas, rgb, _cover((head.radius - 1) * 0.55, soft))


def _paint_eyes(canvas: np.ndarray, p: _Factors, head: _Head, pixel: float) -> None:
    soft = pixel + 0.008
    side, y = np.abs(head.face_x) - 0.235, head.y + 0.03
    inside = _cover((head.radius - 1) * 0.5, soft)
    profile = 1 - side * side * 40.0
    half = (0.026 + 0.094 * p["eye_openness"]) * profile
    white = _stroke(y, np.maximum(half, 0.0), soft) * inside
    _paint(canvas, _rgb(236, 232, 228) * (0.92 - 3.0 * np.maximum(-y, 0.0)), white)
    gaze = side * np.sign(head.face_x) + 0.03 * p["yaw"]
    radius = np.sqrt(gaze * gaze + y * y)
    iris = white * _cover(radius - 0.094, soft)
    _paint(canvas, _ramp(_EYES, p["eye_tone"]) * (0.6 + 4 * radius), iris)
    pupil = _cover(radius - 0.046, soft)
    _paint(canvas, _rgb(14, 12, 14), white * pupil)
    gleam = gaze - 0.03 * p["light"]
    gleam = np.sqrt(gleam * gleam + (y + 0.03) * (y + 0.03)) - 0.016
    _paint(canvas, _rgb(255, 255, 255), white * _cover(gleam, soft))
    lash = _stroke(y + half, 0.02, soft) * _cover(np.abs(side) - 0.165, soft) * inside
    _paint(canvas, _rgb(38, 24, 22), lash * 0.85)
    brow = p["brow"]
    arch = y + 0.205 + 0.045 * brow - side * (0.19 * brow + 1.6 * side)
    thick = 0.032 - 0.06 * np.maximum(side, 0.0)
    mask = _stroke(arch, thick, soft + 0.015) * _cover(np.abs(side) - 0.17, soft + 0.03)
    _paint(canvas, _ramp(_HAIR, 0.8 * p["hair_tone"]) * 0.7, mask * inside * 0.9)


def _paint_mouth(canvas: np.ndarray, p: _Factors, head: _Head, pixel: float) -> None:
    soft = pixel + 0.01
    skin = _ramp(_SKIN, p["skin_tone"])
    smile, gape = 0.25 + 0.75 * p["smile"], 0.085 * p["mouth_open"]
    x = head.face_x / (0.21 + 0.03 * smile)
    squared = x * x
    profile = np.maximum(1 - squared, 0.0)
    y = head.y - 0.45 + 0.085 * smile * (squared - 0.4)
    inside = _cover((head.radius - 1) * 0.5, soft) * _cover(np.abs(x) - 1.05, 0.2)
    lips = np.abs(y - 0.008) - (0.045 + gape) * profile
    shade = 0.78 - 2.0 * np.abs(y - 0.05) + 0.2 * p["light"] * head.normal_x
    _paint(canvas, skin * _rgb(225, 140, 140) * shade * 1.1, _cover(lips, soft + 0.01) * inside)
    gap = _stroke(y, 0.01 + gape * profile, soft) * inside
    _paint(canvas, _rgb(60, 18, 20), gap)
    teeth = _stroke(y + 0.45 * gape, 0.42 * gape * profile, soft)
    _paint(canvas, _rgb(238, 232, 224), gap * teeth * np.minimum(gape * 30, 1.0))


def _paint_glasses(canvas: np.ndarray, p: _Factors, head: _Head, pixel: float) -> None:
    soft = pixel + 0.008
    kind = p["glasses"]
    worn, dark = np.minimum(kind, 1.0), np.maximum(kind - 1.0, 0.0)
    across = np.abs(head.face_x)
    gx, gy = (across - 0.245) / 0.19, (head.y + 0.02) / 0.155
    gx, gy = gx * gx, gy * gy
    ring = (np.sqrt(np.sqrt(gx * gx + gy * gy)) - 1) * 0.17
    lens = _cover(ring, soft) * worn
    glare = 0.9 * np.clip(gx - gy + 0.2, 0.0, 1.0)
    _paint(canvas, _rgb(36, 38, 46) * (1 + glare), lens * (0.08 + 0.84 * dark))
    bar = np.maximum(np.abs(head.y + 0.06) - 0.016, np.minimum(across - 0.07, 0.42 - across))
    rim = np.maximum(_stroke(ring, 0.016, soft), _cover(bar, soft)) * worn
    _paint(canvas, _rgb(34, 26, 24), rim * _cover((head.radius - 1.03) * 0.5, soft) * 0.92)


def _paint(canvas: np.ndarray, rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Blends rgb (3, n, ...) over canvas (3, n, rows, side) in place with opacity alpha."""
    canvas += alpha * (rgb - canvas)


def _cover(distance: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Coverage of the half-space distance < 0, blurred by a smoothstep of the given width."""
    ramp = np.clip(0.5 - distance / width, 0.0, 1.0)
    return ramp * ramp * (3 - 2 * ramp)


def _stroke(
    distance: np.ndarray, half_width: np.ndarray | float, blur: np.ndarray | float
) -> np.ndarray:
    """Coverage of |distance| < half_width; a line thinner than a pixel keeps its total ink."""
    return _cover(distance - half_width, blur) - _cover(distance + half_width, blur)


def _bump(x: np.ndarray) -> np.ndarray:
    """A smooth bell of height 1 on [-1, 1]: (1 - x^2)^2."""
    bell = np.maximum(1 - x * x, 0.0)
    return bell * bell


def _bump2(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bell = np.maximum(1 - x * x - y * y, 0.0)
    return bell * bell


def _band(top: float, bottom: float, side: int) -> slice:
    first, last = ((0.5 + 0.5 * edge / _EXTENT) * side for edge in (top, bottom))
    return slice(max(0, int(first)), int(last) + 1)


def _rgb(red: int, green: int, blue: int) -> np.ndarray:
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1, 1) / np.float32(255)


def _tint(level: float) -> np.ndarray:
    """A shadow of the given level, warmer than the light because skin scatters red."""
    return _rgb(255, 236, 232) * np.float32(level)


def _ramp(colours: tuple[tuple[int, int, int], ...], position: np.ndarray) -> np.ndarray:
    """Piecewise-linear palette: position (n, 1, 1) in [0, 1] to RGB (3, n, 1, 1)."""
    palette = np.array(colours, np.float32).T.reshape(3, -1, 1, 1) / np.float32(255)
    last = len(colours) - 1
    weights = [np.maximum(1 - np.abs(position * last - i), 0.0) for i in range(last + 1)]
    return np.asarray(sum(palette[:, i, None] * w for i, w in enumerate(weights)))


def _hue(hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray | float) -> np.ndarray:
    """HSV to RGB (3, n, 1, 1); the hue (n, 1, 1) is circular with period 1."""
    offsets = np.array([0, 4, 2], np.float32).reshape(3, 1, 1, 1)
    wave = np.clip(np.abs((6 * hue + offsets) % 6 - 3) - 1, 0.0, 1.0)
    return value * (1 - saturation * (1 - wave))
