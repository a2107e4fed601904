"""A digest over the source of a step and of every module of ours that it imports: code as a dependency of results.

Comments, docstrings and blank lines do not count, so that a better explanation re-runs nothing. The text is taken and
not the syntax tree, whose dump differs between versions of Python.
"""

import ast
import functools
import hashlib
import io
import tokenize
from pathlib import Path

SRC = Path(__file__).resolve().parents[1]


def code_digest(module: str, src: Path = SRC) -> str:
    """Sixteen hexadecimal digits for a module such as `censusformer.steps.hvg`, found below `src`."""
    digest = hashlib.sha256()
    for name in closure(module, src):
        digest.update(f"{name}={_own_digest(name, src)}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def closure(module: str, src: Path = SRC) -> tuple[str, ...]:
    """The module, all of ours that it imports directly or not, and the packages they lie in, sorted."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports(name, src)
    return tuple(sorted(seen))


@functools.cache
def imports(module: str, src: Path = SRC) -> tuple[str, ...]:
    """Modules of the same top-level package that a module imports, and the packages that importing them runs."""
    path = _file(module, src)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    named = [module]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            named += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    top = module.split(".", maxsplit=1)[0]
    parents = {".".join(parts[:n]) for parts in (name.split(".") for name in named) for n in range(1, len(parts) + 1)}
    return tuple(sorted(name for name in parents if name.split(".")[0] == top and name != module and _file(name, src)))


def _file(module: str, src: Path) -> Path | None:
    base = src.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@functools.cache
def _own_digest(module: str, src: Path) -> str:
    path = _file(module, src)
    digest = hashlib.sha256(bare(path.read_text()).encode())
    if path.name == "__init__.py":  # templates and other data that lie in the package
        for data in sorted(path.parent.iterdir()):
            if data.is_file() and data.suffix not in (".py", ".pyc"):
                digest.update(data.read_bytes())
    return digest.hexdigest()


def bare(source: str) -> str:
    """The source without comments, docstrings and blank lines."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
