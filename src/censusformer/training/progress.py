"""What a person sees of a run: a bar on a terminal, plain lines elsewhere; and how a run is asked to stop."""

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Iterator

logger = logging.getLogger("censusformer")
_EVERY = 10.0  # seconds between two plain lines
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGURG)  # SIGURG: batch systems send it ahead of a preemption


class Stopped(SystemExit):
    """A signal ended the run, after a checkpoint; the exit status is 128 + its number, as of a shell."""


class Progress:
    """Cells a second and time left, on a bar where stderr is a terminal, else as a line every ten seconds."""

    def __init__(self, total: int, done: int, *, quiet: bool = False) -> None:
        self._total, self._done, self._first = total, done, done
        self._start = self._said = time.monotonic()
        self._quiet = quiet
        self._bar = None
        self._open = contextlib.ExitStack()
        if sys.stderr.isatty() and not quiet:
            from tqdm import tqdm
            from tqdm.contrib.logging import logging_redirect_tqdm

            self._open.enter_context(logging_redirect_tqdm([logger]))  # lines of the log go above the bar
            self._bar = tqdm(total=total, initial=done, unit=" cells", smoothing=0.05, leave=False)

    def update(self, cells: int, text: str) -> None:
        """Count cells; `text` says where training stands."""
        self._done += cells
        if self._bar is not None:
            self._bar.set_description(text, refresh=False)
            self._bar.update(cells)
        elif not self._quiet and time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            rate = (self._done - self._first) / (self._said - self._start)
            left = (self._total - self._done) / rate
            logger.info("%s, %.0f cells/s with evaluation, %s left", text, rate, readable(left))

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
        self._open.close()


def readable(seconds: float) -> str:
    """3725 -> '1 h 02 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


class StopSignal:
    """Remembers the first signal that asks for an end; 0 until then."""

    def __init__(self) -> None:
        self.number = 0

    def _remember(self, number: int, _frame: object) -> None:
        self.number = self.number or number

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopSignal"]:
        """Take over `SIGNALS` within the block."""
        before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
