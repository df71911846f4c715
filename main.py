"""The command line: python main.py --config=configs/celeba64.py [--config.model.n=64 ...]."""

import json
import re
import sys
from pathlib import Path
from typing import NoReturn

from began_jax import runtime

runtime.configure()  # before anything imports jax

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
        logging.set_verbosity(logging.WARNING)  # Orbax tells a page about every checkpoint
    try:
        if len(argv) > 1:
            raise errors.UserError(f"{argv[1]}: flags alone are expected")
        {"train": _train, "fingerprint": _fingerprint}[_MODE.value]()
    except errors.UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _train() -> None:
    if _CONFIG.value is None:
        raise errors.UserError("--config=configs/<name>.py is needed")
    try:
        values = _CONFIG.value.to_dict()
    except OSError as error:  # raised late, by the first access to a file that is not there
        raise errors.UserError(f"--config: {' '.join(str(error).split())}") from error
    config = config_lib.parse(values)
    workdir = Path(_WORKDIR.value or Path("runs") / config.name)
    runtime.enable_compilation_cache()
    if _DRY_RUN.value:
        from began_jax import dry_run

        print(dry_run.report(config))
    else:
        from began_jax import train

        train.train(config, workdir)


def _fingerprint() -> None:
    from began_jax import checkpoints, sharding

    if _WORKDIR.value is None:
        raise errors.UserError("--workdir=<run folder> is needed")
    workdir = Path(_WORKDIR.value)
    path = workdir / "config.json"
    if not path.exists():
        raise errors.UserError(f"--workdir={workdir}: no run there (no config.json)")
    config = config_lib.parse(json.loads(path.read_text(encoding="utf-8")))
    target = sharding.abstract_state(config, sharding.make_mesh(1))
    with checkpoints.Checkpoints(workdir / "checkpoints") as saved:
        state = saved.restore(target, _STEP.value)
    print(f"step {int(state.step)} sha256 {checkpoints.fingerprint(state)}")


def _parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with one line instead of a traceback for a wrong field, value or file."""
    try:
        for argument in argv[1:]:
            if field := re.match(r"--(?:no)?config\.([\w.]+)", argument):
                config_lib.check_field(field[1])
        return flags.FLAGS(argv)
    except errors.UserError as error:
        _exit(str(error))
    except flags.Error as error:
        _exit(f"{error}; see --help")


def _exit(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
