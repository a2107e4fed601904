"""Where a run keeps its checkpoints: under one folder, a folder for each configuration, which no other picks up.

Its name is a digest of all that decides the result. `about.json` in it says the same in words, for people and `clean`.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from censusformer.errors import InputError
from censusformer.files import atomic
from censusformer.training import checkpoints
from censusformer.training.growth import digest_of
from censusformer.training.recipes import recipe_of
from censusformer.training.settings import Settings

logger = logging.getLogger("censusformer")

LAST, BEST, METRICS, BOARD = "last.ckpt", "best_model.pt", "metrics.csv", "tensorboard"
FINISHED, ABOUT = "finished.ckpt", "about.json"


def identity(settings: Settings, shards_sha256: str, vocabulary_sha256: str) -> dict[str, Any]:
    """What decides the result of a run: a checkpoint is continued by the same alone.

    A number of epochs that changes no step before the last is none of it, so that such a run can be made longer.
    """
    sections = settings.to_dict()
    keys = {f"{name}.{key}": value for name in ("mask", "model", "train") for key, value in sections[name].items()}
    if not recipe_of(settings.train.recipe).depends_on_length:
        del keys["train.epochs"]
    if settings.train.init_from is not None:
        keys["train.init_from"] = digest_of(settings.train.init_from)
    return {**keys, "shards": shards_sha256, "vocabulary": vocabulary_sha256}


@dataclass(frozen=True)
class About:
    """What a work folder is of.

    Parameters
    ----------
    identity
        As `identity` gives it.
    code
        Digest of the source that trains.
    epochs
        `train.epochs`, which may be no part of the identity.
    finished
        Whether the results were published.
    """

    identity: Mapping[str, Any]
    code: str
    epochs: int
    finished: bool = False

    @property
    def name(self) -> str:
        """Name of the folder: 12 hexadecimal digits."""
        text = json.dumps([self.identity, self.code], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def read(cls, folder: Path) -> "About | None":
        """What the folder says it is; None where it says nothing."""
        try:
            return cls(**json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Say so in the folder."""
        with atomic(folder / ABOUT) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def differs(self, other: "About") -> list[str]:
        """What stands in the way of going on from the other, by key."""
        one, two = {**self.identity, "code": self.code}, {**other.identity, "code": other.code}
        return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the folder to this process; where the file system has no locks, hope.

    Raises
    ------
    InputError
        Another process has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder} is in use: another process trains there; wait for it or stop it") from error
        except OSError as error:
            logger.info("%s cannot be locked (%s)", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)


def prepare(folder: Path, about: About) -> None:
    """Make the folder ready for `about`: with the checkpoint of a shorter, finished run where there is one.

    A finished run of this length or a longer one is forgotten: who asks for it again wants it trained again.
    """
    before, finished = About.read(folder), folder / FINISHED
    if finished.is_file() and not (folder / LAST).exists():
        if before is not None and before.epochs < about.epochs:
            finished.rename(folder / LAST)
            logger.info("the finished run of %d epochs goes on to %d", before.epochs, about.epochs)
        else:
            _empty(folder, keep=())
    about.write(folder)
    for other in sorted(folder.parent.glob(f"*/{ABOUT}")):
        if other.parent != folder:
            _explain(other.parent, about)


def _explain(folder: Path, about: About) -> None:
    """Say why training does not go on from this other folder."""
    other = About.read(folder)
    differs = about.differs(other) if other is not None else []
    if not differs:
        return
    if not other.finished:
        logger.info("%s holds an unfinished run with another %s: not used", folder, ", ".join(differs))
        if differs == ["code"]:
            logger.info("where the edit changes no result: stop this, and mv %s %s", folder, folder.parent / about.name)
    elif differs == ["train.epochs"]:
        recipe = about.identity["train.recipe"]
        logger.info("recipe %s cannot go on from the finished %d epochs to %d, since its learning rate depends on the "
                    "length: it starts anew", recipe, other.epochs, about.epochs)  # fmt: skip


def finish(folder: Path, about: About) -> None:
    """Keep what a longer run can go on from, if any can, and remove the rest; and what other finished runs left."""
    if "train.epochs" in about.identity:
        (folder / LAST).unlink()  # first: what is killed from here on does not go on with half of the files
        _empty(folder, keep=(ABOUT,))
    else:
        (folder / LAST).rename(folder / FINISHED)
        _empty(folder, keep=(ABOUT, FINISHED, BEST, BOARD))
    About(about.identity, about.code, about.epochs, finished=True).write(folder)
    for path in folder.parent.glob(f"*/{ABOUT}"):
        other = About.read(path.parent)
        if other is not None and other.finished and path.parent != folder:
            shutil.rmtree(path.parent)


def _empty(folder: Path, keep: tuple[str, ...]) -> None:
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def read(folder: Path, name: str, kind: str) -> dict[str, Any]:
    """Read a checkpoint or a model that training goes on from.

    Raises
    ------
    InputError
        Where it is damaged or missing; says that the folder must go.
    """
    try:
        return checkpoints.load(folder / name, kind)
    except InputError as error:
        raise InputError(f"{error}; training starts anew without the folder {folder}") from error


def place(source: Path, target: Path) -> None:
    """Put a file at its place, whole or not at all: by a hard link, which takes no space, else as a copy."""
    with atomic(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
