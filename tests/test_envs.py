"""The conda environments hold what their steps import, nothing else, in the versions of `constraints.txt`."""

import ast
import functools
import sys
from importlib.metadata import packages_distributions

import pytest
from conda_envs import CONDA_NAMES, envs_of_rules, normalised, read_envs

from censusformer.cli import STEPS
from censusformer.digest import closure

# Packages that come by another way than `import`: the module behind whose import they stand.
BEHIND = {"torch.utils.tensorboard": "tensorboard"}
READS_FILES_OF = ("package_file",)  # functions of ours whose first argument is a package that files are read from


@pytest.fixture(scope="module")
def pins(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normalised(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def envs(root):
    return read_envs(root)


@pytest.fixture(scope="module")
def steps_of(root):
    """The steps of each environment."""
    steps = {}
    for rule, env in envs_of_rules(root).items():
        steps.setdefault(env, []).extend([rule] if rule in STEPS else [])
    return steps


def modules(source):
    """Dotted names that a source imports, inside functions too; and the packages whose files it reads, bare."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READS_FILES_OF:
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


installed = functools.cache(packages_distributions)  # it reads the lists of files of all packages


def distributions(names):
    """PyPI's names of what third-party modules come from."""
    found = set()
    for name in names:
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top == "censusformer":
            continue
        assert top in installed(), f"{top} is not installed: run `make`"
        found.add(normalised(installed()[top][0]))
        found |= {package for module, package in BEHIND.items() if f"{name}.".startswith(f"{module}.")}
    return found


@functools.cache
def needs(root, step):
    """PyPI's names of the packages that a step's modules import: those of ours that it imports in their turn, too."""
    found = set()
    for module in closure(f"censusformer.steps.{step}"):
        base = root.joinpath("src", *module.split("."))
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        found |= distributions(modules(file.read_text()))
    return found


def test_versions_are_those_of_the_constraints(envs, pins):
    assert {"census", "prep", "train", "report"} <= envs.keys()
    for name, env in envs.items():
        assert env.packages == {package: pins.get(package) for package in env.packages}, name
        assert env.python == "3.11"


def test_every_rule_has_an_environment(root, envs):
    assert STEPS.keys() <= envs_of_rules(root).keys()
    assert set(envs_of_rules(root).values()) == envs.keys()


@pytest.mark.parametrize("step", STEPS)
def test_a_step_finds_all_that_it_imports(root, envs, step):
    env = envs_of_rules(root)[step]
    missing = needs(root, step) - envs[env].packages.keys()
    assert not missing, f"envs/{env}.yaml lacks {sorted(missing)}"


def test_environments_hold_nothing_else(root, envs, steps_of):
    for name, env in envs.items():
        needed = set().union(*(needs(root, step) for step in steps_of[name]))
        assert not env.packages.keys() - needed, f"no step of envs/{name}.yaml imports these"


def test_training_needs_no_scanpy_and_no_tiledb(envs):
    assert not {"scanpy", "tiledbsoma", "anndata", "numba"} & envs["train"].packages.keys()


def test_modules_are_found_where_they_are_imported():
    source = (
        "import a.b\nfrom c import d\ndef f():\n    from torch.utils.tensorboard import SummaryWriter\n"
        "    return package_file('celltypist', 'x'), other('scanpy')\n"
    )
    assert list(modules(source)) == ["a.b", "c.d", "torch.utils.tensorboard.SummaryWriter", "celltypist"]
    assert distributions(["torch.utils.tensorboard.SummaryWriter", "skmisc.loess", "os.path"]) == {
        "torch",
        "tensorboard",
        "scikit-misc",
    }


def test_the_table_of_what_was_looked_up_names_every_pin(root, envs):
    text = (root / "docs/conda.md").read_text()
    for env in envs.values():
        for name, version in env.conda.items():
            assert f"| `{CONDA_NAMES.get(name, name)}` | {version} |" in text
        for name, version in env.pip.items():
            assert f"| `{name}` (`pip:`) | {version} |" in text
