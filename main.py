"""The command line: python main.py --config=configs/celeba64.py [--config.model.n=64 ...]."""

import _thread
import logging as stdlib_logging
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from began_jax import config as config_lib
from began_jax import errors, rules, targets
from began_jax.schema import Config

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A file of configs/; single fields: --config.began.gamma=0.3."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; default: runs/<config.name>.")
_MODES = {
    "train": "starts the run in --workdir or resumes it",
    "fingerprint": "prints a SHA-256 of the whole train state; equal exactly where two runs are",
    "sample": "images from random latents, as a grid (--out=*.png), an array (*.npy) or a folder",
    "reconstruct": "D(x) beside x",
    "invert": "G(z) beside x, for the z that comes closest",
    "interpolate": "rows of images between two latents, two images, an image and its mirror image",
    "evaluate": "samples against the data: Fréchet and kernel distance, precision, ...",
    "timeline": "the same latents' samples at every checkpoint, as a PNG and a WebP",
}
_MODE = flags.DEFINE_enum(
    "mode", "train", list(_MODES), "; ".join(f"{name}: {text}" for name, text in _MODES.items())
)
_STEP = flags.DEFINE_integer("step", None, "The checkpoint to read; default: the newest.")
flags.DEFINE_string(
    "out", None, "A .png or, of samples, a .npy or a folder; default: a picture below --workdir."
)
_NUM = flags.DEFINE_integer(
    "num",
    None,
    "Images, rows, or samples of an evaluation; default: all of --images, else the mode's.",
    lower_bound=1,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the latents.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_string(
    "images", None, "A folder, zip, .npy, .npz, or files with commas; default: the run's data."
)
_AVERAGE = flags.DEFINE_bool("average", True, "G's moving average; --noaverage: G itself.")
flags.DEFINE_enum(
    "between", "latents", ["latents", "images", "mirror"], "What interpolate goes between."
)
flags.DEFINE_bool("spherical", False, "Interpolates along great circles.")
flags.DEFINE_integer("columns", None, "Of an interpolation; default: 9.", lower_bound=2)
_NETWORK = flags.DEFINE_enum(
    "network", None, rules.NETWORKS, "Evaluates in it; default: the run's config.eval.network."
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Its weights' file; default: config.eval.weights.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", None, "Of an evaluation.", lower_bound=1)
_EVERY_CHECKPOINT = flags.DEFINE_bool("every_checkpoint", False, "Evaluates all of the run.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of the first of several processes, the same for all."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many they are.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Several processes as the cluster tells JAX; SLURM and Open MPI need none.",
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the resolved config, parameters, memory and FLOPs, and stop."
)
_TARGET = flags.DEFINE_string(
    "target",
    None,
    "Hardware that --dry_run compiles for, present or not: h100, h200x8, v5e-8, ... "
    "(default: the devices of this machine).",
)


def main(argv: list[str]) -> int:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_logger().addFilter(_is_for_users)
        stdlib_logging.getLogger("asyncio").setLevel(stdlib_logging.CRITICAL)  # Orbax's too
    try:
        if len(argv) > 1:
            raise errors.UserError(f"{argv[1]}: flags alone are expected")
        _check_flags()
        if _MODE.value == "train":
            _train()
        else:
            _from_checkpoint()
    except errors.UserError as error:
        return _failed(error, error.exit_status)
    except OSError as error:  # a full or vanished disk, a folder that may not be written
        return _failed(error, errors.UserError.exit_status)
    except KeyboardInterrupt:  # training answers the signal itself
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _failed(error: Exception, exit_status: int) -> int:
    text = str(error) if isinstance(error, errors.UserError) else errors.one_line(error)
    print(text, file=sys.stderr)
    if "jax" in sys.modules:
        from began_jax import processes, signals

        if not isinstance(error, signals.Stopped):  # which stops all, so that none waits long
            processes.leave(exit_status)
    return exit_status


def _train() -> None:
    config = _config()
    workdir = _path(_WORKDIR.value) or Path("runs") / config.name
    target = targets.parse(_TARGET.value) if _TARGET.value is not None else None
    if target is not None:
        targets.configure(target)
    from began_jax import processes, runtime  # here and below, as JAX takes a second to import

    runtime.configure()
    processes.start(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, detect=_DISTRIBUTED.value
    )
    if _DRY_RUN.value:
        from began_jax import dry_run

        print(dry_run.report(config, target))
    else:
        from began_jax import train

        with processes.telling_of_lost_ones():
            train.train(config, workdir)


def _config() -> Config:
    if _CONFIG.value is None:
        raise errors.UserError("--config=configs/<name>.py is needed")
    return config_lib.parse(_CONFIG.value.to_dict())


# What each mode takes besides --workdir; the arguments of the functions in `pictures`.
_FLAGS = {
    "train": {
        *("config", "dry_run", "target"),
        *("coordinator", "num_processes", "process_id", "distributed"),
    },
    "fingerprint": {"step"},
    "sample": {"step", "out", "num", "seed", "average"},
    "reconstruct": {"step", "out", "num", "images"},
    "invert": {"step", "out", "num", "images", "seed", "average"},
    "interpolate": {
        *("step", "out", "num", "images", "seed", "average"),
        *("between", "spherical", "columns"),
    },
    "timeline": {"out", "num", "seed", "average"},
    "evaluate": {
        *("step", "every_checkpoint", "num", "seed", "num_seeds", "average"),
        *("network", "weights"),
    },
}


def _check_flags() -> None:
    """Raises UserError for a flag that the mode would not read."""
    for name in ("out", "images", "workdir", "weights"):
        if flags.FLAGS[name].value == "":
            raise errors.UserError(f"--{name}: a path is needed")
    for name in sorted(set.union(*_FLAGS.values()) - _FLAGS[_MODE.value]):
        if flags.FLAGS[name].present:
            takes = ", ".join(f"--{flag}" for flag in sorted(_FLAGS[_MODE.value]))
            raise errors.UserError(f"--{name}: --mode={_MODE.value} takes --workdir, {takes}")
    if _TARGET.value is not None and not _DRY_RUN.value:
        raise errors.UserError(f"--target={_TARGET.value}: needs --dry_run.")


def _from_checkpoint() -> None:
    if _WORKDIR.value is None:
        raise errors.UserError("--workdir=<run folder> is needed")
    from began_jax import checkpoints, pictures, restoring, runtime

    _interrupt_again_where_it_is_lost()
    runtime.configure()
    workdir, mode = Path(_WORKDIR.value).expanduser(), _MODE.value
    if mode == "fingerprint":
        _, state = restoring.restore(workdir, _STEP.value)
        print(f"step {int(state.step)} sha256 {checkpoints.fingerprint(state)}")
    elif mode == "evaluate":
        _evaluate(workdir)
    else:
        make: dict[str, Callable[..., list[Path]]] = {
            "sample": pictures.sample,
            "reconstruct": pictures.reconstruct,
            "invert": pictures.invert,
            "interpolate": pictures.interpolate,
            "timeline": pictures.timeline,
        }
        values = {name: flags.FLAGS[name].value for name in _FLAGS[mode]}
        given = {name: value for name, value in values.items() if value is not None}
        if "out" in given:
            given["out"] = Path(given["out"]).expanduser()
        for written in make[mode](workdir, **given):
            print(written)


def _evaluate(workdir: Path) -> None:
    from began_jax import evaluate, files, reports, restoring
    from began_jax.metrics import networks

    if _EVERY_CHECKPOINT.value and _STEP.present:
        raise errors.UserError(f"--step={_STEP.value}: --every_checkpoint takes them all")
    defaults = restoring.load_config(workdir).eval
    of_config = _NETWORK.value in (None, defaults.network)
    weights = _WEIGHTS.value or (defaults.weights if of_config else "")
    network = networks.load(_NETWORK.value or defaults.network, _path(weights))
    num_seeds = _NUM_SEEDS.value or defaults.num_seeds
    if _SEED.value + num_seeds > 2**32:
        raise errors.UserError(f"--seed={_SEED.value}: {num_seeds} seeds from there end past 2^32")
    for written, report in evaluate.evaluate(
        workdir,
        step=_STEP.value,
        every_checkpoint=_EVERY_CHECKPOINT.value,
        network=network,
        num=_NUM.value or defaults.num_samples,
        seeds=range(_SEED.value, _SEED.value + num_seeds),
        average=_AVERAGE.value,
    ):
        print(written)
        print(reports.summary(report), flush=True)
    if _EVERY_CHECKPOINT.value:
        found = files.read_json(written.with_name("correlations.json"))
        told = [
            f"{name} {value:.2f} ({found['with_step'][name]:.2f})"
            for name, value in found["with_m_global"].items()
            if reports.is_main(name)
        ]
        num = len(found["steps"])
        # The normal approximation of Spearman's test.
        chance = (
            f"; of nothing but chance up to {min(1, 1.96 / (num - 1) ** 0.5):.2f}" if told else ""
        )
        print(
            f"rank correlation with M_global (with the step) over {num} checkpoints: "
            f"{', '.join(told) or 'three with a recorded M_global are needed'}{chance}"
        )


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _interrupt_again_where_it_is_lost() -> None:
    """Raises Ctrl-C again where it came inside a callback whose exceptions are dropped, as some of
    JAX's are."""
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            again = threading.Timer(0.05, _thread.interrupt_main)
            again.daemon = True
            again.start()
        else:
            usual(unraisable)

    sys.unraisablehook = hook


def _is_for_users(record: stdlib_logging.LogRecord) -> bool:
    """False for Orbax's records: what matters of them is raised."""
    return "orbax" not in record.pathname


def _parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with one line instead of a traceback for a wrong field, value or file."""
    try:
        config_lib.check_arguments(argv[1:])
        return flags.FLAGS(argv)
    except errors.UserError as error:
        message = str(error)
    except flags.Error as error:
        message = f"{error}; see --help"
    except SystemExit as ended:
        if ended.code == 1 and any(re.match(r"--?(help|\?)", word) for word in argv[1:]):
            sys.exit(0)  # absl ends with 1 after its help
        raise
    # What a config file can do wrong; the message has the line where Python knows it.
    except (AttributeError, ImportError, OSError, SyntaxError) as error:
        message = f"--config: {errors.one_line(error)}"
    print(message, file=sys.stderr)
    sys.exit(errors.UserError.exit_status)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
