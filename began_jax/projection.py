"""A dry run for an accelerator that is not there: memory, operations and least time of a step."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from began_jax import backends, feed, hlo, sharding, targets
from began_jax.schema import Config
from began_jax.targets import Target

# Images in the training splits that the configs name, for a data set that is not prepared yet.
_TFDS_IMAGES = {
    ("celeb_a", "train"): 162_770,
    ("celeb_a_hq/256", "train"): 30_000,
    ("cifar10", "train"): 50_000,
}
# What JAX takes of a GPU unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
_USABLE = {"gpu": 0.75, "tpu": 1.0}


class Projection(NamedTuple):
    """What one device holds and does in a train step."""

    target: Target
    batch_size: int  # over all devices
    resident: bool  # the data set is kept on the devices
    state_bytes: int
    dataset_bytes: int
    other_bytes: int  # activations, gradients, constants
    counts: hlo.Counts | None  # of the program for a GPU
    flops: float
    bytes_moved: float

    @property
    def memory(self) -> int:
        """Bytes that a device needs."""
        return self.state_bytes + self.dataset_bytes + self.other_bytes

    def fits(self) -> bool:
        """Return whether a process gets that much memory of a device."""
        return self.memory <= usable_memory(self.target)

    def seconds(self, dtype: str) -> float:
        """Return the least time of a step: that of its FLOPs or of its bytes at nominal speed."""
        chip = self.target.chip
        return max(self.flops / chip.flops[dtype], self.bytes_moved / chip.bandwidth)


def usable_memory(target: Target) -> int:
    """Return the bytes of each device that JAX uses by default."""
    return int(_USABLE[target.platform] * target.chip.memory)


def project(config: Config, target: Target) -> Projection:
    """Compile a train step for the target, without running it.

    Raises:
      UserError: the compiler is not installed, or the batch does not divide by the devices.
    """
    mesh = targets.mesh(target)
    t, m = config.train, config.model
    sharding.check_batch(t.batch_size, target.num_devices, t.microbatches)
    image_bytes = m.resolution**2 * m.channels
    num_images = _num_images(config)
    dataset_bytes = num_images * image_bytes
    resident = dataset_bytes > 0 and feed.fits(dataset_bytes, usable_memory(target))
    config = backends.resolve(config, target.platform)
    config = backends.resolve_dispatch(config, resident=resident, platform=target.platform)
    shape = (num_images, image_bytes)
    dataset = None
    if resident:
        dataset = jax.ShapeDtypeStruct(shape, np.uint8, sharding=sharding.replicated(mesh))
    compiled = _compile(config, mesh, dataset)
    memory = compiled.memory_analysis()
    assert memory is not None  # both compilers report it
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    used += memory.output_size_in_bytes - memory.alias_size_in_bytes
    state_bytes = sharding.state_bytes(config, mesh)
    if t.microbatches > 1:  # XLA counts a loop's body once, so count the step without the loop
        whole = dataclasses.replace(config, train=dataclasses.replace(t, microbatches=1))
        config = backends.resolve_dispatch(whole, resident=resident, platform=target.platform)
        compiled = _compile(config, mesh, dataset)
    counts = None
    flops = _flops(config) / target.num_devices
    if target.platform == "gpu":
        text = compiled.as_text()
        assert text is not None  # the GPU's compiler gives it
        counts = hlo.count_step(text, shape if resident else None)
        bytes_moved = float(counts.bytes_moved)
    else:
        costs = compiled.cost_analysis()
        assert costs is not None  # libtpu reports it
        bytes_moved = costs["bytes accessed"]
    return Projection(
        target=target,
        batch_size=t.batch_size,
        resident=resident,
        state_bytes=state_bytes,
        dataset_bytes=dataset_bytes if resident else 0,
        other_bytes=used - state_bytes - (dataset_bytes if resident else 0),
        counts=counts,
        flops=flops,
        bytes_moved=bytes_moved,
    )


def report(config: Config, target: Target) -> list[str]:
    """Return the projection as lines, with a batch that fits if the config's does not."""
    found = _project_or_none(config, target)
    size = config.train.batch_size
    lines = [f"target: {target.num_devices} × {target.chip.name}, compiled for and not run"]
    if not _num_images(config):
        lines.append("data set: of unknown size, taken as read from the host")
    if found is None or not found.fits():
        need = f"{found.memory / 1e9:,.1f} GB" if found else "more memory"
        lines.append(
            f"fits: no. config.train.batch_size={size} needs {need} on each device, "
            f"of which JAX uses {usable_memory(target) / 1e9:,.1f} GB."
        )
        found = _largest_half_that_fits(config, target)
        if found is None:
            return [*lines, "No batch fits. Use a smaller config.model.n."]
        lines.append(f"config.train.batch_size={found.batch_size} fits. The rest is for it:")
    else:
        lines.append("fits: yes")
    return [*lines, *_lines(config, found)]


def _lines(config: Config, found: Projection) -> list[str]:
    chip, counts, dtype = found.target.chip, found.counts, config.model.dtype
    usable = usable_memory(found.target)
    free = usable - found.state_bytes - found.dataset_bytes
    dataset = f"{found.dataset_bytes / 1e6:,.0f} MB" if found.resident else "read from the host"
    seconds = found.seconds(dtype)
    lines = [
        f"memory per device: {found.memory / 1e9:,.2f} of the {usable / 1e9:,.1f} GB that JAX uses "
        f"(state {found.state_bytes / 1e6:,.0f} MB, data set {dataset}, "
        f"other {found.other_bytes / 1e6:,.0f} MB)",
        f"largest batch: about {int(free / found.other_bytes * found.batch_size):,}",
    ]
    if counts is not None:
        exchanged = ", ".join(f"{num} {name}" for name, num in counts.collectives.items())
        lines.append(
            f"operations a step: {counts.kernels} kernels ({counts.convolutions} convolutions), "
            f"{exchanged or 'nothing'} exchanged, {counts.collective_bytes / 1e6:,.1f} MB"
        )
    by_flops, by_bytes = found.flops / chip.flops[dtype], found.bytes_moved / chip.bandwidth
    return [
        *lines,
        f"work per device and step: {found.flops / 1e9:,.1f} GFLOP ({by_flops * 1e3:.2f} ms), "
        f"{found.bytes_moved / 1e9:,.2f} GB ({by_bytes * 1e3:.2f} ms), at nominal speed",
        f"least time of a step: {seconds * 1e3:.2f} ms, {found.batch_size / seconds:,.0f} images/s",
        f"least time of the run: {config.train.num_steps * seconds / 60:,.1f} minutes "
        f"for {config.train.num_steps:,} steps",
    ]


def _project_or_none(config: Config, target: Target) -> Projection | None:
    """Return the projection, or None if the compiler reports too little memory."""
    try:
        return project(config, target)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def _largest_half_that_fits(config: Config, target: Target) -> Projection | None:
    """Return the projection of the batch halved as often as needed, or None."""
    t = config.train
    smallest = target.num_devices * t.microbatches
    num = t.batch_size // 2 // smallest * smallest
    while num:
        smaller = dataclasses.replace(config, train=dataclasses.replace(t, batch_size=num))
        found = _project_or_none(smaller, target)
        if found is not None and found.fits():
            return found
        num = num // 2 // smallest * smallest
    return None


def _compile(
    config: Config, mesh: Mesh, dataset: jax.ShapeDtypeStruct | None
) -> jax.stages.Compiled:
    return sharding.lower_steps(config, mesh, config.train.steps_per_dispatch, dataset).compile()


def _flops(config: Config) -> float:
    """Return XLA's count for the step of the whole batch, which it gives for a CPU's program."""
    mesh = sharding.make_mesh(config.train.batch_size, jax.devices("cpu")[:1])
    costs = sharding.lower_steps(config, mesh).cost_analysis()
    assert costs is not None  # the CPU's back end has it
    return costs["flops"]


def _num_images(config: Config) -> int:
    """Return the size of the training set, 0 where it is not known without loading it."""
    data = config.data
    if data.source == "synthetic_faces":
        return data.num_images
    if data.source != "tfds":
        return 0
    return _TFDS_IMAGES.get((data.name, data.split), 0)
