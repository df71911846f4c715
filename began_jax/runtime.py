"""What must be set before JAX starts: XLA's flags and the compilation cache."""

import importlib.util
import os
from importlib import metadata

from began_jax import files

# The default convolutions of XLA:CPU in jax 0.10 are up to twice slower than these; an unknown
# flag aborts the process, so it is named for the versions it was tried on alone.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
_CPU_FLAG_VERSIONS = ("0.10.",)


def configure() -> None:
    """Sets XLA_FLAGS for the JAX that is installed, unless the user has; provenance.json tells.

    Call before the first import of jax.
    """
    tried = metadata.version("jax").startswith(_CPU_FLAG_VERSIONS)
    has_tpu = importlib.util.find_spec("libtpu") is not None  # which has flags of its own
    if tried and not has_tpu:
        os.environ.setdefault("XLA_FLAGS", _CPU_FLAG)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the cache directory, unless the user chose another place."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(files.cache_dir() / "xla"))
