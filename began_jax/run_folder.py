"""Names in a run's folder, and the check that a run may use a folder."""

import os
import tempfile
from pathlib import Path

import numpy as np

from began_jax import config as config_lib
from began_jax import errors, files
from began_jax.data import identity
from began_jax.schema import Config

# Every name that training and the other modes write in a run's folder, except config.json, which
# training writes first, and .lock, which a start that failed may leave behind.
NAMES = (
    *("data.json", "provenance.json", "metrics.jsonl", "rollbacks.json", "report.html"),
    *("samples", "tensorboard", "eval"),
    *("checkpoints", "damaged-checkpoints", "rolled-back-checkpoints"),
    *("sample", "reconstruct", "invert", "interpolate", "timeline.png", "timeline.webp", "study"),
)
_ON_ANOTHER_DISK = ("checkpoints", "tensorboard")  # may be symbolic links


def check(workdir: Path, config: Config) -> None:
    """Raise unless `workdir` holds this run, or nothing that a new run would take for its own.

    Raises:
      UserError: a name of a run without config.json, or a symbolic link in place of such a name.
      ConfigError: the run in `workdir` has another config.
    """
    if not (workdir / "config.json").exists():
        for name in NAMES:
            path = workdir / name
            if os.path.lexists(path) and not _is_link_to_empty_folder(path):
                shown = f"{name}/" if path.is_dir() else name
                raise errors.UserError(
                    f"--workdir={workdir}: holds {shown} but no config.json, so no run wrote it. "
                    "Choose another --workdir."
                )
    check_links(workdir)
    config_lib.check_same_run(workdir, config)


def record(workdir: Path, config: Config, images: np.ndarray) -> None:
    """Write config.json and, for a new run, data.json.

    Raises:
      ConfigError: the images are not those that the run began with.
    """
    data_json = workdir / "data.json"
    if is_known := data_json.exists():
        identity.check(data_json, images)
    # Before any other name: without config.json, `check` would refuse the folder.
    files.write_text(workdir / "config.json", config_lib.to_json(config))
    if not is_known:
        identity.note(data_json, images)


def check_links(workdir: Path) -> None:
    """Raise UserError if a name that a run writes in `workdir` is a symbolic link.

    `checkpoints` and `tensorboard` may be links to another disk, but not into another run.
    """
    for name in ("config.json", *NAMES):
        path = workdir / name
        # The folder that holds the link's target, unlike `Path.resolve` also for a circular link.
        home = Path(os.path.realpath(path)).parent
        if name not in _ON_ANOTHER_DISK or (home / "config.json").exists():
            files.check_no_link(path)


def check_writable(workdir: Path) -> None:
    """Raise an error if another mode cannot write into the run's folder.

    Raises:
      UserError: a name that a run writes is a symbolic link.
      OSError: no file can be created.
    """
    check_links(workdir)
    with tempfile.TemporaryFile(dir=workdir):
        pass


def sample_grid_name(num_images: int) -> str:
    """Return the name in `samples` of the grid after `num_images` images."""
    return f"{num_images:09d}.png"


def sample_grids(workdir: Path) -> dict[int, Path]:
    """Return the run's sample grids by images seen, ascending, without any other file."""
    numbered = [path for path in (workdir / "samples").glob("*.png") if path.stem.isdecimal()]
    own = [path for path in numbered if path.name == sample_grid_name(int(path.stem))]
    return dict(sorted((int(path.stem), path) for path in own if path.is_file()))


def _is_link_to_empty_folder(path: Path) -> bool:
    """Return whether a run may start to write through this link, as it holds nothing to lose."""
    is_link = path.name in _ON_ANOTHER_DISK and path.is_symlink() and path.is_dir()
    return is_link and not any(path.iterdir())
