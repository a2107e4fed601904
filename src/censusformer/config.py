"""The settings of a run: read and checked. Used by the Snakefile, never by a step."""

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from censusformer.errors import InputError

DATA_SECTIONS = ("census", "chunk", "filter", "hvg", "normalize", "binning", "split", "tokenize")  # results/{dataset}
RUN_SECTIONS = ("mask", "model", "train", "evaluate", "embeddings", "finetune")  # results/{dataset}/{run}
NO_SWEEP = ("evaluate", "embeddings", "finetune", "execution")  # no model would differ
RESERVED = frozenset(
    [
        "benchmarks",
        "binned",
        "cells",
        "census",
        "chunks",
        "evaluation",
        "finetune",
        "hvg",
        "logs",
        "shards",
        "split",
        "tensorboard",
        "work",
    ]
)  # folders with a meaning


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'hvg': {'n_top': 5}} -> {'hvg.n_top': 5}; keys that are dotted already stay."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The way back from `flatten`."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a local `$ref` points to, or the schema itself."""
    return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def coerce(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Values as the schema's types: what `--config` gives inside a mapping arrives as text ('100', 'true', 'null')."""
    schema = resolve(schema, root)
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        return {key: coerce(item, properties.get(key, {}), root) for key, item in value.items()}
    if isinstance(value, list):
        return [coerce(item, schema.get("items", {}), root) for item in value]
    kinds = schema.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if kinds == {"string"} and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # `precision: 32`, `run: 2`
    if isinstance(value, str) and kinds:
        return _from_text(value, kinds)
    return value


def _from_text(text: str, kinds: set[str]) -> Any:
    if "null" in kinds and text in ("null", "~", ""):
        return None
    if "string" in kinds:
        return text
    if kinds & {"number", "integer"}:
        for cast in (int, float):
            try:
                return cast(text)
            except ValueError:
                continue
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def allowed(schema: Mapping[str, Any]) -> str:
    """What a schema takes, in words."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kinds = schema.get("type", "anything")
    named = {"array": "list like [a, b]", "object": "mapping of keys"}
    words = [" or ".join(named.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))]
    bounds = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "below"}
    words += [f"{text} {schema[key]}" for key, text in bounds.items() if key in schema]
    if "pattern" in schema:
        words.append("letters, digits and . _ + - alone, the first one a letter, digit or _")
    if "minItems" in schema or "minLength" in schema:
        words.append("not empty")
    if schema.get("uniqueItems"):
        words.append("no item twice")
    return ", ".join(words)


def check(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its values in the schema's types.

    Raises
    ------
    InputError
        A line for each key that is wrong, five at most: the key, its value and what is allowed.
    """
    import jsonschema

    settings = coerce(config, schema, schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(settings)
    lines = [line for error in errors for line in _complaints(error, schema)]
    if not lines:
        lines = _relations(settings)
    if lines:
        lines = sorted(set(lines))
        shown = [*lines[:5], *([f"and {len(lines) - 5} more"] if len(lines) > 5 else [])]
        raise InputError("the config cannot be used:\n" + "\n".join(f"  {line}" for line in shown))
    return settings


def _complaints(error: Any, root: Mapping[str, Any]) -> list[str]:
    where = ".".join(f"item {part + 1}" if isinstance(part, int) else part for part in error.absolute_path)
    below = f"{where}." if where else ""
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        return [unknown(below, key, known) for key in error.instance if key not in known]
    if error.validator == "required":
        return [f"{below}{key} is missing" for key in error.validator_value if key not in error.instance]
    schema = resolve(error.schema, root)
    value = repr(error.instance)
    return [f"{where}: {value if len(value) < 80 else value[:77] + '...'} is not allowed; allowed: {allowed(schema)}"]


def unknown(below: str, key: str, known: list[str]) -> str:
    """Say that a key is none, and which is nearest."""
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {below}{near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{below}{key} is no key of the config; {hint}"


def _relations(settings: Mapping[str, Any]) -> list[str]:
    """What no single key can show."""
    census, model, lines = settings["census"], settings["model"], []
    given = [key for key in ("version", "uri", "h5ad") if census[key] is not None]
    if len(given) != 1:
        lines.append(
            f"census: exactly one of version, uri and h5ad must be set and the others null; "
            f'set: {", ".join(given) or "none"} (for your own files take presets/blood-h5ad.yaml, or add "uri": null)'
        )
    if census["min_cells_per_sample"] > census["max_cells_per_sample"]:
        lines.append("census.min_cells_per_sample is over census.max_cells_per_sample: no sample could be chosen")
    if model["d_model"] % model["n_heads"]:
        lines.append(f"model.d_model: {model['d_model']} is no multiple of model.n_heads ({model['n_heads']})")
    if settings["finetune"]["tasks"] and settings["finetune"]["h5ad"] is None:
        lines.append("finetune.h5ad: null, but finetune.tasks needs an h5ad file of cells with labels")
    taken = RESERVED & {settings["dataset"], settings["run"]}
    lines += [f"dataset and run may not be called {name}: a folder of that name has a meaning" for name in taken]
    return lines


def only(settings: Mapping[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """The flat settings of some sections."""
    sections = set(sections)
    return {key: value for key, value in settings.items() if key.split(".")[0] in sections}


def options(settings: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Command-line options of some keys: hvg.n_top -> --hvg-n-top 1200; a null gives none."""
    words: list[str] = []
    for key in keys:
        value = settings[key]
        if value is None:
            continue
        words.append("--" + re.sub(r"[._]", "-", key))
        words += [_word(item) for item in (value if isinstance(value, list) else [value])]
    return " ".join(words)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))
