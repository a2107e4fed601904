"""Arrows between packages point one way, and training stays light."""

import ast
import subprocess
import sys

import pytest

PACKAGES = ("census", "expression", "tokens", "model", "training", "evaluation", "report", "steps")
LEAVES = {"hashing", "errors", "files", "digest"}
MAY_IMPORT = {"training": {"model", "tokens"}, "report": {"evaluation"}, "steps": set(PACKAGES)}


def imported(path):
    """Dotted names that a file imports, ours as 'censusformer.x'."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(root, package):
    allowed = MAY_IMPORT.get(package, set()) | LEAVES | {package}
    files = sorted((root / "src/censusformer" / package).rglob("*.py"))
    assert files
    for path in files:
        ours = {name.split(".")[1] for name in imported(path) if name.startswith("censusformer.")}
        assert ours <= allowed, f"{path.name} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_nothing_of_ours(root, leaf):
    assert not [name for name in imported(root / f"src/censusformer/{leaf}.py") if name.startswith("censusformer")]


HEAVY = ("scanpy", "anndata", "tiledbsoma", "cellxgene_census", "snakemake", "scipy", "sklearn", "numba", "matplotlib")


@pytest.mark.parametrize(
    ("package", "refused"),
    [("training", HEAVY), ("model", (*HEAVY, "lightning", "pyarrow")), ("tokens", (*HEAVY, "torch", "pandas"))],
)
def test_light_packages_run_without_the_heavy_ones(root, package, refused):
    """Import every module of the package in a Python in which the heavy ones cannot be imported."""
    names = [path.stem for path in (root / "src/censusformer" / package).glob("[!_]*.py")]
    code = (
        f"import sys, importlib\nfor name in {refused!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module('censusformer.{package}.' + name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def code_lines(function):
    """Lines of a function's body without its docstring."""
    body = function.body[bool(ast.get_docstring(function)) :]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_files_and_functions_stay_small(root):
    """The house's aims, as medians: a reader finds a file whole on a few screens."""
    lengths, long_files = [], []
    for path in (root / "src").rglob("*.py"):
        text = path.read_text()
        if len(text.splitlines()) > 350:
            long_files.append(path.name)
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        lengths += [code_lines(function) for function in functions]
    lengths.sort()
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[int(len(lengths) * 0.9)] <= 40
    assert not long_files
