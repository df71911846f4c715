"""What a process sets before it computes: where compiled programs and freed memory are kept."""

import contextlib
import ctypes

import jax

from began_jax import files
from began_jax.schema import ModelConfig

# glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def configure() -> None:
    """Keeps compiled programs, except those that `backends.compile` withholds, in the cache
    directory unless the user chose another, and makes dispatch synchronous on a CPU.

    There a second dispatch in flight would double a step's memory and gain nothing. Call before the
    first use of a device.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(files.cache_dir() / "xla"))


def keep_freed_memory(config: ModelConfig) -> None:
    """Lets glibc reuse the hundreds of megabytes that XLA:CPU takes and frees in each step.

    Otherwise they go back to the system and come back page by page, zeroed: a fifth of the time of
    a step in the form "winograd". The others take less and are slower for it, since the one arena
    that this needs makes small allocations wait. Call before the first computation, with a resolved
    config.
    """
    if config.conv == "winograd":  # on a CPU, then
        with contextlib.suppress(AttributeError, OSError):  # not glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_ARENA_MAX, 1)
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, -1)  # never


def return_freed_memory() -> None:
    """Lets glibc give the system what has been freed, hundreds of megabytes after a compilation."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
