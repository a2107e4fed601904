"""Reading through network errors."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import tiledbsoma

from censusformer.census.open import Source, UnreachableError, open_census

logger = logging.getLogger("censusformer")

Result = TypeVar("Result")

ATTEMPTS = 7
FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 120.0


def read_all(source: Source, tasks: Sequence[Callable[[tiledbsoma.Collection], Result]]) -> Iterator[Result]:
    """Results of tasks on an open census, in order.

    After an `UnreachableError` the census is opened anew and the task is tried again, after 2, 4, 8, ... seconds; what
    was read before is not read twice. A task that fails `ATTEMPTS` times in a row ends it. A local census is read once.
    """
    done = failures = 0
    while done < len(tasks):
        try:
            with open_census(source) as census:
                while done < len(tasks):
                    yield tasks[done](census)
                    done, failures = done + 1, 0
        except UnreachableError as error:
            failures += 1
            if failures == ATTEMPTS:
                raise
            seconds = min(FIRST_WAIT_SECONDS * 2 ** (failures - 1), LONGEST_WAIT_SECONDS)
            logger.warning("attempt %d of %d: %s; once more in %.0f s", failures, ATTEMPTS, error, seconds)
            time.sleep(seconds)
