"""What may import what, what is nowhere used, and how long a file and a function may be."""

import ast
import functools
from collections import defaultdict
from pathlib import Path

from tests.conftest import ROOT

# Packages and the only files of began_jax/ that import them.
HOMES = {
    "flax.linen": {
        *("models/__init__.py", "models/networks.py", "models/ebgan_networks.py"),
        *("metrics/coverage.py", "metrics/inception.py"),
    },
    "orbax": {"checkpoints.py"},
    "clu": {"event_files.py"},
    "tensorboardX": {"event_files.py"},
    "tensorflow_datasets": {"data/tfds_builders.py", "data/tfds_source.py"},
    "torch": {"metrics/convert.py"},
    "ml_collections": set(),
    "tensorflow": set(),
}
# Functions of arrays and plain values: no file, clock, process, device or thread.
PURE = (
    *("models/*.py", "objectives/*.py", "metrics/frechet.py", "metrics/kernel.py"),
    *("metrics/ms_ssim.py", "metrics/precision_recall.py", "metrics/inception.py"),
    *("equilibrium.py", "losses.py", "gradients.py", "optimizers.py", "train_state.py"),
    *(
        "blocks.py",
        "data_axis.py",
        "train_step.py",
        "generate.py",
        "health.py",
        "randomness.py",
        "rules.py",
        "schema.py",
    ),
)
PURE_MAY_IMPORT = {
    *("jax", "flax", "optax", "numpy", "math", "statistics"),
    *("collections", "dataclasses", "enum", "functools", "itertools", "typing"),
}
LONGEST_FILE, LONGEST_FUNCTION = 300, 60
LONG_FILES = {"began_jax/data/face_painting.py": "one drawing, part by part"}
LONG_FUNCTIONS = {
    "began_jax/rules.py:of": "a table",
    "configs/base.py:get_config": "a table",
    "began_jax/train.py:_loop": "the loop, in one piece to be read in one",
    "began_jax/train_step.py:train_step": "the paper's algorithm, in one piece",
    "benchmarks/bench.py:_compare": "a sequence of turns that share what they have measured",
}
FOLDERS = ("began_jax", "benchmarks", "configs", "launch")


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path):
    return path.relative_to(ROOT).as_posix()


def file_of(module):
    """Of a module or a package of this checkout; None of others."""
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imports(path):
    """Dotted names of what a file imports anywhere; of other packages their insides too."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            own = {module for module in inner if file_of(module)}
            found |= own if len(own) == len(inner) else inner | {node.module}
    return found


def own_imports(path):
    return {file for module in imports(path) if (file := file_of(module))} - {path}


def top(module):
    return module.split(".")[0]


def test_a_package_is_imported_where_it_has_its_home():
    found = defaultdict(set)
    for path in sources("began_jax"):
        for module in imports(path):
            for imported in (module, top(module)):
                found[imported].add(path.relative_to(ROOT / "began_jax").as_posix())
    assert {package: found[package] for package in HOMES} == HOMES


def test_pure_modules_import_no_others():
    pure = {path for pattern in PURE for path in (ROOT / "began_jax").glob(pattern)}
    # An error's class and the range of pixels are as pure; the package itself imports nothing.
    pure |= {ROOT / "began_jax" / file for file in ("__init__.py", "errors.py", "pixels.py")}
    for path in pure:
        outer = {top(m) for m in imports(path)} - PURE_MAY_IMPORT - {"began_jax"}
        assert not outer, name(path)
        impure = {name(file) for file in own_imports(path) if file not in pure}
        impure -= {"began_jax/metrics/__init__.py"}
        assert not impure, name(path)


def test_the_package_imports_nothing_above_it_and_nothing_in_a_circle():
    for path in sources("began_jax"):
        assert not {top(m) for m in imports(path)} & {"configs", "launch", "tests", "benchmarks"}
    done: set[Path] = set()

    def visit(path, above):
        assert path not in above, [name(one) for one in (*above, path)]
        if path not in done:
            for file in own_imports(path):
                visit(file, (*above, path))
            done.add(path)

    for path in sources("began_jax", "launch"):
        visit(path, ())


def test_the_map_has_every_module():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [*(ROOT / "began_jax").glob("[!_]*.py"), *(ROOT / "launch").glob("[!_]*.py")]
    assert [path.name for path in modules if path.name not in page] == []


def test_nothing_of_what_is_banned_is_used():
    for path in [ROOT / "main.py", *sources(*FOLDERS)]:
        pickling = {top(m) for m in imports(path)} & {"pickle", "dill", "cloudpickle"}
        # submitit's own way to a cluster's host, from the user's account to the same.
        assert pickling <= ({"cloudpickle"} if path.name == "slurm_array.py" else set()), name(path)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "jax.pmap", "config.get"), name(path)
                pickles = [word for word in node.keywords if word.arg == "allow_pickle"]
                assert all(ast.unparse(word.value) == "False" for word in pickles), name(path)
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), name(path)


def test_files_and_functions_are_short():
    long_files = {
        name(path)
        for path in [ROOT / "main.py", *sources(*FOLDERS)]
        if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    }
    assert long_files == set(LONG_FILES)
    long_functions = {
        f"{name(path)}:{node.name}"
        for path in [ROOT / "main.py", *sources(*FOLDERS)]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    }
    assert long_functions == set(LONG_FUNCTIONS)


def test_every_public_function_is_documented_and_annotated():
    for path in sources("began_jax", "launch"):
        for parent in [tree(path), *(n for n in tree(path).body if isinstance(n, ast.ClassDef))]:
            for node in parent.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    where = f"{name(path)}:{node.name}"
                    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    own = arguments[isinstance(parent, ast.ClassDef) :]
                    assert all(argument.annotation for argument in own), where
                    assert node.returns is not None, where
                    assert ast.get_docstring(node), where
