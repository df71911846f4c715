"""Several processes of one run, on one host or many.

Each computes the same step on its share of the batch. The first alone touches the run's folder;
what the others need of it they are told, so that they need not see it. `jax.distributed` connects
them and tells each when another ends.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax import numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from began_jax import errors

_SILENT_SECONDS = 10  # before the others are waited for in words
_PATIENCE_SECONDS = 300  # for all to come: hosts do not start at once
_HEARTBEAT_SECONDS = 30  # without a sign of life a process counts as lost
_SHUTDOWN_SECONDS = 3600  # at the end all wait for the first, which may still save or evaluate

T = TypeVar("T")

_CALLS = itertools.count()  # by which JAX tells "the same call"


class Lost(errors.UserError):
    """Another process of the run ended or did not come: started again, all go on."""

    exit_status = 75  # the system's EX_TEMPFAIL, by which a launcher tells it from what is refused


def start(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, detect: bool
) -> None:
    """Connects this process with the run's others, if there are any. Call before JAX computes.

    By the three values, where they are given; by what SLURM's srun or Open MPI's mpirun tell of
    more than one task; with `detect` by whatever JAX finds (TPU pods). Says that it waits for the
    others where that takes long; ends the process with a line where not all came within five
    minutes, as JAX would with a stack of C++ calls. A signal ends it meanwhile.

    Raises:
      UserError: values that do not belong together, a port that is in use, or no cluster to detect.
    """
    given = {
        "--coordinator": coordinator,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise errors.UserError(f"{', '.join(missing)}: needed beside the others of the three")
    if missing and not detect and not _is_one_of_several():
        return
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise errors.UserError(f"--coordinator={coordinator}: host:port is needed")
    if process_id is not None and not 0 <= process_id < (num_processes or 0):
        raise errors.UserError(f"--process_id={process_id}: 0 to --num_processes - 1 is needed")
    if coordinator is not None and process_id == 0:
        _check_port(coordinator)

    with _told_while_waiting(f"--coordinator={coordinator}" if coordinator else "the coordinator"):
        _initialize(coordinator, num_processes, process_id)


def _initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=2 * _PATIENCE_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            # What a cluster says besides, such as one device a task, is not what was asked for.
            cluster_detection_method=None if coordinator is None else "deactivate",
        )
    except (ValueError, RuntimeError) as error:
        asked = "--distributed" if coordinator is None else f"--coordinator={coordinator}"
        raise errors.UserError(f"{asked}: no cluster: {errors.one_line(error)}") from error


@contextlib.contextmanager
def _told_while_waiting(where: str) -> Iterator[None]:
    def tell() -> None:
        print(f"{where}: waits for the run's other processes", file=sys.stderr, flush=True)

    def give_up() -> None:
        message = f"{where}: not all processes of the run came within {_PATIENCE_SECONDS} s"
        print(message, file=sys.stderr, flush=True)
        os._exit(Lost.exit_status)

    timers = [threading.Timer(_SILENT_SECONDS, tell), threading.Timer(_PATIENCE_SECONDS, give_up)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    # Python's own handler would wait for JAX's C++ to return.
    usual = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        for timer in timers:
            timer.cancel()


def _check_port(coordinator: str) -> None:
    """Raises UserError where something listens: JAX would share the port with another run's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is closing is free
        try:
            probe.bind(("", int(coordinator.rpartition(":")[2])))
        except (OSError, OverflowError) as error:
            raise errors.UserError(
                f"--coordinator={coordinator}: its port cannot be used ({errors.one_line(error)}); "
                "each run needs one of its own"
            ) from error


def connect() -> None:
    """Sums over all devices once, where there are several processes.

    Call it before anything that takes the processes unequally long. Some transports connect
    at the first computation, and do not wait long for the slowest.
    """
    if are_several():
        mesh = jax.make_mesh((jax.device_count(),), ("all",))
        split = NamedSharding(mesh, PartitionSpec("all"))
        ones = jax.make_array_from_callback((mesh.size,), split, lambda _: np.ones(1))
        whole = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones)
        jax.block_until_ready(whole)


def are_several() -> bool:
    """Whether the run has more than this process."""
    # Asked first, as the count would start the devices.
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that reads and writes the run's folder."""
    return not are_several() or jax.process_index() == 0


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, which alone calls it: anything that JSON can say.

    All processes must call this, in the same order.

    Raises:
      UserError: what `make` raised, in all.
    """
    if not are_several():
        return make()
    found: dict[str, Any] = {}
    if is_first():
        try:
            found["value"] = make()
        except (errors.UserError, OSError) as error:
            _broadcast_bytes(json.dumps({"error": _text(error)}).encode())
            raise
    found = json.loads(_broadcast_bytes(json.dumps(found).encode()))
    if "error" in found:
        raise errors.UserError(found["error"])
    return found["value"]


def in_all(make: Callable[[], T]) -> T:
    """What `make` returns in each process; where it raises in one, all raise.

    All processes must call this, in the same order.

    Raises:
      UserError: what `make` raised, of the first such process.
    """
    if not are_several():
        return make()
    try:
        value, error = make(), None
    except (errors.UserError, OSError) as raised:
        value, error = None, raised
    failed = multihost_utils.process_allgather(np.bool(error is not None))
    if not failed.any():
        return value  # type: ignore[return-value]
    first = int(np.argmax(failed))
    told = _broadcast_bytes(_text(error).encode() if error else b"", from_process=first)
    raise error or errors.UserError(f"process {first}: {told.decode()}")


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, errors.UserError) else errors.one_line(error)


def arrays_from_first(arrays: Any) -> Any:
    """A tree of the first process' host arrays; of the others' only shapes and types count."""
    if not are_several():
        return arrays
    leaves, tree = jax.tree.flatten(arrays)
    whole = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in leaves)
    # As bytes: what is sent is a sum over the processes, and the sum of floats is not every float.
    data = _broadcast(np.frombuffer(whole, np.uint8))
    told, first = [], 0
    for leaf in leaves:
        told.append(data[first : first + leaf.nbytes].view(leaf.dtype).reshape(leaf.shape))
        first += leaf.nbytes
    return jax.tree.unflatten(tree, told)


def smallest(value: int) -> int:
    """The smallest of all processes' values, below 2^63."""
    if not are_several():
        return value
    # As bytes: JAX makes 32 bits of 64.
    own = np.frombuffer(np.int64(value).tobytes(), np.uint8)
    values = np.ascontiguousarray(multihost_utils.process_allgather(own)).view(np.int64)
    return int(values.min())


def asked_to_stop() -> int | None:
    """SIGTERM, if it came to any of the processes; all are told at the same call of this."""
    return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(next(_CALLS)) else None


@contextlib.contextmanager
def telling_of_lost_ones() -> Iterator[None]:
    """Makes a line of what a computation raises when another process ended.

    Raises:
      Lost: that line.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:  # whatever the transport at hand raises
        signs = ("Gloo", "NCCL", "oordination", "UNAVAILABLE", "DEADLINE_EXCEEDED")
        if not are_several() or not any(sign in str(error) for sign in signs):
            raise
        raise Lost(
            f"process {jax.process_index()} of {jax.process_count()}: another one ended; started "
            f"again, all go on from the newest checkpoint ({errors.one_line(error)[:200]})"
        ) from error


def leave(exit_status: int) -> None:
    """Ends a process of several at once: at a usual exit each waits for the others."""
    if are_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_status)


def _is_one_of_several() -> bool:
    counts = (
        os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    )
    return any(count.isdigit() and int(count) > 1 for count in counts)


def _broadcast_bytes(text: bytes, from_process: int = 0) -> bytes:
    length = int(_broadcast(np.array([len(text)], np.int32), from_process)[0])
    padded = text[:length].ljust(length, b"\0")  # the others' own is of another length
    return _broadcast(np.frombuffer(padded, np.uint8), from_process).tobytes()


def _broadcast(array: np.ndarray, from_process: int = 0) -> np.ndarray:
    is_source = jax.process_index() == from_process
    return np.asarray(multihost_utils.broadcast_one_to_all(array, is_source))
