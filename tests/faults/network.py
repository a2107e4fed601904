"""A release of a census on S3 behind a proxy that disturbs, read by the steps' own command line."""

import contextlib
import logging
import os
import sys
import time
from pathlib import Path

from .harness import Outcome
from .proxy import MODES, Proxy

RELEASE = "2025-11-08"
_LOCAL = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
WHAT = {
    "500": "census answers 500",
    "503": "census answers 503",
    "stall": "census is silent for {stall:g} s",
    "cut": "census cuts connections",
    "vanish": "census is away for {away:g} s",
}


@contextlib.contextmanager
def cloud(folder):
    """(URL of the S3 server, URL of the list of releases) with the small census as a release; no keys are set."""
    import small_census

    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    soma = small_census.write(folder / "soma")
    saved = {name: os.environ.pop(name, None) for name in _LOCAL}
    try:
        with (
            small_census.s3_server(soma, f"{RELEASE}/soma") as s3,
            small_census.releases(folder / "releases", {RELEASE: True}) as listed,
        ):
            yield s3, listed
    finally:
        os.environ.update({name: value for name, value in saved.items() if value is not None})


@contextlib.contextmanager
def reached_by(s3, listed):
    """The environment of a user whose census lies there."""
    names = {"AWS_ENDPOINT_URL_S3": s3, "CENSUSFORMER_CENSUS_DIRECTORY": listed}
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def call(*words):
    """One step by its command line; its return code."""
    from censusformer.cli import main

    return main([str(word) for word in words])


def select(out):
    """Choose cells; (return code, lists of chunks)."""
    from small_census import select_options

    code = call(*select_options(out, "--census-version", "stable", "--resolved", out / "stable.json"))
    return code, sorted((out / "chunks").glob("*.parquet"))


def all_modes(folder, seed, *, stall=5.0, away=60.0):
    """An outcome for each of the proxy's modes."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    with cloud(folder) as (s3, listed):
        expected = undisturbed(folder / "undisturbed", s3, listed)
        for mode in MODES:
            yield disturbed(folder / mode, s3, listed, expected, mode, seed=seed, stall=stall, away=away)


def undisturbed(folder, s3, listed):
    """{file: bytes} of select and download when nothing goes wrong."""
    with reached_by(s3, listed):
        code, chunks = select(folder)
        assert code == 0 and len(chunks) > 1
        assert [call("download", "--list", chunk, "--out", folder / f"{chunk.stem}.h5ad") for chunk in chunks] == [
            0 for _ in chunks
        ]
    return contents(folder)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def disturbed(folder, s3, listed, expected, mode, *, seed=0, stall=5.0, away=60.0, share=0.15):
    """Select and download all chunks behind the proxies; a step that fails is called again, as Snakemake would be.

    Each step is a try. `ended` tells how many ended at once and how many with a message, after which a further call
    went on.
    """
    outcome = Outcome(WHAT[mode].format(stall=stall, away=away))
    data = Proxy(s3, mode, share=share, stall=stall, seed=seed)
    releases = Proxy(listed, mode, share=share, stall=stall, seed=seed + 1)
    with data.serve() as s3_url, releases.serve() as listed_url, reached_by(s3_url, listed_url):
        if mode == "vanish":
            data.mode = releases.mode = None  # the lists are there when it goes
        _until_it_ends(outcome, lambda: select(folder)[0])
        if mode == "vanish":
            data.mode = releases.mode = mode
            data.back = releases.back = time.monotonic() + away
        for chunk in sorted((folder / "chunks").glob("*.parquet")):
            _until_it_ends(outcome, lambda c=chunk: call("download", "--list", c, "--out", folder / f"{c.stem}.h5ad"))
    faults = data.done + releases.done
    outcome.ended["faulty requests"] = faults
    if not faults:
        outcome.wrong.append("the proxy disturbed nothing")
    found = contents(folder)
    outcome.lost += [f"{name} is missing" for name in expected.keys() - found.keys()]
    outcome.wrong += [f"{name} differs" for name in found if found[name] != expected.get(name)]
    return outcome


def _until_it_ends(outcome, step):
    outcome.tries += 1
    for attempt in range(5):
        code = step()
        if code == 0:
            outcome.count("ended at once" if attempt == 0 else "went on after a message")
            return
        if code != 2:
            outcome.wrong.append("it failed without a message for the user")
            return
    outcome.lost.append("five calls did not end it")
