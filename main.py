"""The command line: python main.py --config=configs/celeba64.py [--config.model.n=64 ...]."""

import logging as stdlib_logging
import re
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from began_jax import config as config_lib
from began_jax import errors

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A file of configs/; single fields: --config.began.gamma=0.3."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; default: runs/<config.name>.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "fingerprint"],
    "train: starts the run in --workdir or resumes it. fingerprint: prints a SHA-256 of the whole "
    "train state of a checkpoint; equal exactly where two runs are.",
)
_STEP = flags.DEFINE_integer("step", None, "The checkpoint to read; default: the newest.")
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the resolved config, parameters, memory and FLOPs, and stop."
)


def main(argv: list[str]) -> int:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_logger().addFilter(_is_for_users)
    try:
        if len(argv) > 1:
            raise errors.UserError(f"{argv[1]}: flags alone are expected")
        {"train": _train, "fingerprint": _fingerprint}[_MODE.value]()
    except errors.UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _train() -> None:
    if _STEP.value is not None:
        raise errors.UserError("--step: --mode=train goes on from the newest checkpoint")
    config = _config()
    workdir = Path(_WORKDIR.value or Path("runs") / config.name)
    from began_jax import runtime  # here and below, as JAX takes a second to import

    runtime.configure()
    if _DRY_RUN.value:
        from began_jax import dry_run

        print(dry_run.report(config))
    else:
        from began_jax import train

        train.train(config, workdir)


def _config() -> config_lib.Config:
    if _CONFIG.value is None:
        raise errors.UserError("--config=configs/<name>.py is needed")
    return config_lib.parse(_CONFIG.value.to_dict())


def _fingerprint() -> None:
    if _WORKDIR.value is None:
        raise errors.UserError("--workdir=<run folder> is needed")
    if _CONFIG.value is not None or _DRY_RUN.value:
        raise errors.UserError("--mode=fingerprint takes --workdir and --step alone")
    workdir = Path(_WORKDIR.value)
    config = config_lib.load(workdir / "config.json")
    import jax

    from began_jax import checkpoints, sharding

    one_device = sharding.make_mesh(1, jax.devices()[:1])
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        state = saved.restore(sharding.abstract_state(config, one_device), _STEP.value)
    print(f"step {int(state.step)} sha256 {checkpoints.fingerprint(state)}")


def _is_for_users(record: stdlib_logging.LogRecord) -> bool:
    """Not so Orbax's warnings: they are about its own ways, and what matters is raised."""
    return "orbax" not in record.pathname or record.levelno >= stdlib_logging.ERROR


def _parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with one line instead of a traceback for a wrong field, value or file."""
    try:
        for argument in argv[1:]:
            if field := re.match(r"--?(?:no)?config\.([\w.]+)", argument):
                config_lib.check_field(field[1])
            file = re.match(r"--?config=([^:]*)", argument)
            if file and not Path(file[1]).is_file():
                raise errors.UserError(f"--config={file[1]}: no such file")
        return flags.FLAGS(argv)
    except errors.UserError as error:
        message = str(error)
    except flags.Error as error:
        message = f"{error}; see --help"
    # What a config file can do wrong; the message has the line where Python knows it.
    except (AttributeError, ImportError, OSError, SyntaxError) as error:
        message = f"--config: {errors.one_line(error)}"
    print(message, file=sys.stderr)
    sys.exit(errors.UserError.exit_status)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
