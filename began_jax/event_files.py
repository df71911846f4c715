"""TensorBoard's event files; the only module that imports clu and tensorboardX."""

import re
import sys
import time
import types
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2


def _import_metric_writers() -> Any:
    """clu.metric_writers, without the TensorFlow of a writer that is not used here."""
    name = "clu.metric_writers.summary_writer"
    if name not in sys.modules:
        placeholder = types.ModuleType(name)
        placeholder.SummaryWriter = None  # type: ignore[attr-defined]
        sys.modules[name] = placeholder
    from clu import metric_writers

    return metric_writers


def remove(directory: Path) -> None:
    """Remove the event files that a `TensorBoardWriter` wrote, and no other file."""
    for path in directory.glob("events.out.tfevents.*"):
        if re.search(r"\.[0-9a-f]{32}$", path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


class TensorBoardWriter(_import_metric_writers().MetricWriter):  # type: ignore[misc]
    """clu's writer interface over tensorboardX's event files, for what this project writes.

    Each call writes, in the caller's thread: tensorboardX's own SummaryWriter hands events to a
    thread that dies of a full disk, after which its callers wait for ever.

    Any method raises OSError where the file cannot be written.
    """

    def __init__(self, directory: Path, purge_step: int | None):
        """Events of steps from `purge_step` on, left by a run that was cut off, are hidden."""
        directory.mkdir(parents=True, exist_ok=True)
        # Else two writers within a second would write to one file, the second over the first.
        suffix = f".{uuid.uuid4().hex}"
        self._file = event_file_writer.EventsWriter(str(directory / "events"), suffix)
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(purge_step, session_log=start)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""
        for name, value in scalars.items():
            self._write(step, summary=summary.scalar(name, float(value)))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Images (N, H, W, C) by name, uint8 0..255."""
        for name, batch in images.items():
            picture = summary.image(name, np.asarray(batch), dataformats="NHWC")
            self._write(step, summary=picture)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Not supported."""
        raise NotImplementedError("this project writes no texts")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Flat settings, shown beside `m_global` in TensorBoard's table of runs."""
        for part in summary.hparams(dict(hparams), {"m_global": 0.0}):
            self._write(0, summary=part)

    def write_histograms(self, step: int, arrays: Any, num_buckets: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError("this project writes no histograms")

    def write_summaries(self, step: int, values: Any, metadata: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError("tensorboardX has no raw summaries")

    def write_videos(self, step: int, videos: Any) -> None:
        """Not supported."""
        raise NotImplementedError("this project writes no videos")

    def write_audios(self, step: int, audios: Any, *, sample_rate: int) -> None:
        """Not supported."""
        raise NotImplementedError("this project writes no audio")

    def flush(self) -> None:
        """Writes what is buffered."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        self._file.write_event(event_pb2.Event(wall_time=time.time(), step=int(step), **content))
