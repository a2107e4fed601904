"""What a person sees: a bar on a terminal, lines elsewhere."""

import io
import logging
import sys

import pytest

from censusformer.training.progress import Progress, readable


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    progress = Progress(100, 20)
    progress._bar.mininterval = 0
    progress.update(40, "epoch 1/2, step 3")
    assert "epoch 1/2, step 3" in screen.getvalue()
    assert "60/100" in screen.getvalue()
    assert "cells/s" in screen.getvalue()
    progress.close()


def test_lines_elsewhere_every_ten_seconds(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = iter([0.0, 4.0, 12.0, 12.0])
    monkeypatch.setattr("censusformer.training.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, logger="censusformer"):
        progress = Progress(1000, 100)
        progress.update(60, "step 1")
        progress.update(60, "step 2")
        progress.close()
    assert caplog.messages == ["step 2, 10 cells/s with evaluation, 1 min 18 s left"]


@pytest.mark.parametrize(("seconds", "text"), [(8.4, "8 s"), (78, "1 min 18 s"), (3725, "1 h 02 min")])
def test_readable(seconds, text):
    assert readable(seconds) == text
