"""What must be set before JAX starts: XLA's flags and the compilation cache."""

import os
from importlib import metadata

from absl import logging

from began_jax import files

# The default convolutions of XLA:CPU in jax 0.10 are up to twice slower than these; an unknown
# flag aborts the process, so it is named for the versions it was tried on alone.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
_CPU_FLAG_VERSIONS = ("0.10.",)


def configure() -> None:
    """Sets the environment for the JAX that is installed; the user's own settings win.

    Call before the first import of jax.
    """
    if metadata.version("jax").startswith(_CPU_FLAG_VERSIONS) and "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = _CPU_FLAG
        logging.info("XLA_FLAGS=%s", _CPU_FLAG)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the cache directory, unless the user chose another place."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(files.cache_dir() / "xla"))
