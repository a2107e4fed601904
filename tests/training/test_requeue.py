"""SIGURG within a SLURM job: it is queued again, once there is something to go on from."""

import signal
from types import SimpleNamespace

import pytest

from censusformer.training import requeue
from censusformer.training.progress import Stopped
from censusformer.training.session import _requeued


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """What SLURM is asked for, one line a call, by a `scontrol` that says yes as long as no file `refuse` is there."""
    script = tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ ! -e {tmp_path}/refuse ]\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr(requeue, "_END", 0)
    path = tmp_path / "calls"
    path.touch()
    return lambda: path.read_text().splitlines()


def stopped(number, steps, first=True):
    """The exit status of a process whose training is stopped by a signal after so many steps."""
    fabric = SimpleNamespace(is_global_zero=first, broadcast=lambda value: value)
    trainer = SimpleNamespace(state=SimpleNamespace(step=100), fabric=fabric)
    with pytest.raises(Stopped) as raised, _requeued(trainer):
        trainer.state.step += steps
        raise Stopped(128 + number)
    return raised.value.code


def test_the_warning_before_the_limit_queues_the_job_again(calls):
    assert stopped(signal.SIGURG, 1) == 128 + signal.SIGURG
    assert calls() == ["requeue 17"]


def test_one_process_asks_for_all(calls):
    stopped(signal.SIGURG, 1, first=False)
    assert not calls()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_other_signals_end_the_job(calls, number):
    stopped(number, 1)
    assert not calls()


def test_a_job_too_short_for_a_step_is_not_queued_for_ever(calls):
    stopped(signal.SIGURG, 0)
    assert not calls()


def test_outside_of_slurm_nobody_is_asked(calls, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID")
    stopped(signal.SIGURG, 1)
    assert not calls()


def test_a_site_that_refuses_gets_a_failed_job_at_once(calls, tmp_path, monkeypatch):
    (tmp_path / "refuse").touch()
    monkeypatch.setattr(requeue, "wait_for_the_end", lambda: pytest.fail("nothing will end it"))
    assert stopped(signal.SIGURG, 1) == 128 + signal.SIGURG
    assert calls() == ["requeue 17"]
