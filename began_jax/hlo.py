"""Counts of a compiled program, read from XLA's text of it."""

import re
from collections import Counter
from typing import NamedTuple

_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
    "s64": 8,
    "u64": 8,
}
_SHAPE = re.compile(r"\b(" + "|".join(_BYTES) + r")\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][a-z\-0-9]*)\((.*)$")
# They compute nothing and move nothing. The `-done` half of an operation is part of its start.
_FREE = {"get-tuple-element", "tuple", "parameter", "constant", "bitcast", "after-all"}
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


class Counts(NamedTuple):
    """What one device does in one run of a computation."""

    kernels: int  # calls of a library, fusions, copies
    convolutions: int  # of the kernels, those of cuDNN
    bytes_moved: int  # read and written by the kernels
    collectives: dict[str, int]  # their number, by operation
    collective_bytes: int  # of their results


def count_step(text: str, dataset_shape: tuple[int, ...] | None = None) -> Counts:
    """Count the operations of one train step.

    Args:
      text: `compiled.as_text()` of `sharding.compile_steps`, for one or more steps.
      dataset_shape: the resident data set's shape. A step reads a few of its rows, not all of it.
    """
    computations, entry = _computations(text)
    loops = [line for line in computations[entry] if " while(" in line]
    body = entry
    if loops:
        found = re.search(r"body=%?([\w.\-]+)", loops[0])
        assert found is not None  # every while loop has a body
        body = found[1]
    resident = f"u8[{','.join(map(str, dataset_shape))}]" if dataset_shape else None
    return _count(computations[body], resident)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the lines of each computation by name, and the name of the entry."""
    found: dict[str, list[str]] = {}
    current = entry = ""
    for line in text.splitlines():
        match = _COMPUTATION.match(line)
        if match:
            current = match[2]
            found[current] = []
            entry = current if match[1] else entry
        elif line.startswith("  ") and current:
            found[current].append(line.strip())
    return found, entry


def _count(lines: list[str], resident: str | None) -> Counts:
    shapes: dict[str, str] = {}
    kernels = convolutions = moved = collective_bytes = 0
    collectives: Counter[str] = Counter()
    for line in lines:
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        name, shape, operation, rest = match.groups()
        shapes[name] = shape
        if operation in _FREE or operation.endswith("-done"):
            continue
        kernels += 1
        convolutions += "cudnn$conv" in rest
        operands = [shapes.get(arg, "") for arg in re.findall(r"%([\w.\-]+)", rest.split("), ")[0])]
        size = _num_bytes(shape)
        moved += size + sum(_num_bytes(s) for s in operands if not resident or resident not in s)
        collective = operation.removesuffix("-start")
        if collective in _COLLECTIVES:
            collectives[collective] += 1
            collective_bytes += size
    return Counts(kernels, convolutions, moved, dict(collectives), collective_bytes)


def _num_bytes(shape: str) -> int:
    """Return the bytes of an array or of a tuple of arrays."""
    total = 0
    for dtype, sides in _SHAPE.findall(shape):
        size = _BYTES[dtype]
        for side in filter(None, sides.split(",")):
            size *= int(side)
        total += size
    return total
