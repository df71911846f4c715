"""What a sweep consists of: runs, each a point of lists and grids with a seed, a config and a name.

A setting is a pair such as ("config.began.gamma", "0.3"), a point the settings of one run.
"""

import dataclasses
import functools
import hashlib
import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from urllib import parse as urls

from absl import flags
from ml_collections import config_flags

from began_jax import config as config_lib
from began_jax import errors
from began_jax.schema import Config

Setting = tuple[str, str]
Point = tuple[Setting, ...]

_SETTING = re.compile(r"config\.([\w.]+)=(.*)", re.DOTALL)
_LONGEST_NAME = 200  # bytes; file systems allow 255


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a sweep."""

    name: str
    """Of its folder: the settings by their shortest unambiguous names, in the order of the config's
    fields, the seed last. The same settings have the same name in every sweep."""
    arguments: tuple[str, ...]  # of main.py, but for --workdir
    config: Config


def runs(
    config_file: str,
    fixed: Sequence[str],
    lists: Sequence[str],
    grids: Sequence[str],
    num_seeds: int | None,
) -> list[Run]:
    """Every listed point with every point of the grids and every seed, each a valid run.

    Args:
      config_file: what `--config=` is given.
      fixed: `--config.<field>=<value>` arguments that all runs share.
      lists: points as 'config.a=1 config.b=2', with a shell's quotes; none: one without settings.
      grids: axes as 'config.a=1,2,3'.
      num_seeds: `config.seed` is 0 to below it; None: 1, unless the seed is set otherwise.

    Raises:
      UserError: a field that is not there or set twice, a value that it does not take, or a run
        that is there twice; nothing has been written.
    """
    axes = [[_listed(text) for text in lists] or [()], *([_axis(text) for text in grids])]
    swept = {field for axis in axes for point in axis for field, _ in point}
    shared = {_field_of(argument) for argument in fixed}
    if num_seeds is not None or "config.seed" not in swept | shared:
        axes.append([(("config.seed", str(seed)),) for seed in range(num_seeds or 1)])
    points = [tuple(itertools.chain(*parts)) for parts in itertools.product(*axes)]
    found: dict[Config, Point] = {}
    made = []
    for point in points:
        _check_fields(point, shared)
        arguments = (f"--config={config_file}", *fixed, *(f"--{f}={value}" for f, value in point))
        config = _parse_point(point, arguments)
        if config in found:
            raise errors.UserError(f"{_told(point)}: the same run as {_told(found[config])}")
        found[config] = point
        made.append(Run(_name(point, config), arguments, config))
    return made


def parse(arguments: Sequence[str]) -> Config:
    """The config that main.py makes of `--config=<file>` and the fields that follow.

    Raises:
      UserError: as main.py tells it.
    """
    values = flags.FlagValues()
    argv = ["main.py", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    config_lib.check_arguments(arguments)
    try:
        values(argv)
    except flags.Error as error:
        raise errors.UserError(f"{error}; see --help") from error
    # What a config file can do wrong; the message has the line where Python knows it.
    except (AttributeError, ImportError, OSError, SyntaxError) as error:
        raise errors.UserError(f"--config: {errors.one_line(error)}") from error
    parsed: Any = values["config"].value
    return config_lib.parse(parsed.to_dict())


def _listed(text: str) -> Point:
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that is not closed
        words = []
    found = [_SETTING.fullmatch(word) for word in words]
    if not found or None in found:
        raise errors.UserError(f"--list={text}: 'config.<field>=<value> ...' is needed")
    return tuple((f"config.{match[1]}", match[2]) for match in found if match)


def _axis(text: str) -> list[Point]:
    found = _SETTING.fullmatch(text)
    if not found:
        raise errors.UserError(f"--grid={text}: config.<field>=<value>,<value>,... is needed")
    return [((f"config.{found[1]}", value),) for value in found[2].split(",")]


def _field_of(argument: str) -> str:
    return re.sub(r"^--(no)?", "", argument).partition("=")[0]


def _check_fields(point: Point, shared: set[str]) -> None:
    fields = [field for field, _ in point]
    for field in fields:
        config_lib.check_field(field.removeprefix("config."))
        if field not in _types():
            raise errors.UserError(f"{field}: a group of fields; one of them is needed")
        if field in shared or fields.count(field) > 1:
            raise errors.UserError(f"{field}: it is set twice")


def _parse_point(point: Point, arguments: Sequence[str]) -> Config:
    try:
        return parse(arguments)
    except errors.UserError as error:
        for field, value in point:
            if str(error).startswith(f"flag --{field}={value}: "):  # absl's, of another type
                kind = _types()[field].__name__
                raise errors.UserError(f"{field} = {value!r}: {kind} is needed") from error
        if all(field == "config.seed" for field, _ in point):
            raise
        # A rule may be about a field that is not swept.
        raise errors.UserError(f"{_told(point)}: {errors.one_line(error)}") from error


@functools.cache
def _types() -> dict[str, Any]:
    """Of every field, by 'config.began.gamma'."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(field.type):
            inner = dataclasses.fields(field.type)
            found.update({f"config.{field.name}.{one.name}": one.type for one in inner})
        else:
            found[f"config.{field.name}"] = field.type
    return found


def _told(point: Point) -> str:
    return " ".join(f"{field}={value}" for field, value in point)


def _name(point: Point, config: Config) -> str:
    values = config_lib.flatten(config)
    swept = {field.removeprefix("config.") for field, _ in point}
    ordered = [field for field in values if field in swept and field != "seed"]
    shown = [f"{short_name(field, values)}={_safe(values[field])}" for field in [*ordered, "seed"]]
    name = ",".join(shown)
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name[: _LONGEST_NAME - 17]}-{digest}"
    return name


def short_name(field: str, fields: Iterable[str]) -> str:
    """The shortest end of a dotted name that no other of the fields has: 'gamma', 'data.name'."""
    parts = field.split(".")
    for i in reversed(range(len(parts))):
        end = ".".join(parts[i:])
        if sum(other == end or other.endswith(f".{end}") for other in fields) == 1:
            return end
    return field


def _safe(value: Any) -> str:
    """A value without what a file system, a shell or the name's own commas could trip over."""
    return urls.quote(str(value), safe="+")
