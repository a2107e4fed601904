"""Reading goes on after network errors, without reading twice."""

import contextlib

import pytest

from censusformer.census import retry
from censusformer.census.open import Source, UnreachableError
from censusformer.errors import InputError

SOURCE = Source("homo_sapiens", "x", version="2025-11-08")


@pytest.fixture
def network(monkeypatch):
    """A census that opens always; what was opened and how long was waited."""
    seen = {"opened": 0, "waited": []}

    @contextlib.contextmanager
    def open_census(source):
        assert source == SOURCE
        seen["opened"] += 1
        yield "census"

    monkeypatch.setattr(retry, "open_census", open_census)
    monkeypatch.setattr(retry.time, "sleep", seen["waited"].append)
    return seen


def failing(times, result, calls, error=UnreachableError):
    """A task that fails some times before it gives its result."""

    def task(census):
        assert census == "census"
        calls.append(result)
        if calls.count(result) <= times:
            raise error("no route")
        return result

    return task


def test_tasks_are_tried_again_with_doubling_waits(network, caplog):
    calls = []
    with caplog.at_level("WARNING", logger="censusformer"):
        results = list(retry.read_all(SOURCE, [failing(0, "a", calls), failing(3, "b", calls), failing(1, "c", calls)]))
    assert results == ["a", "b", "c"]
    assert calls == ["a", *"bbbb", *"cc"]
    assert network == {"opened": 5, "waited": [2, 4, 8, 2]}
    assert "attempt 3 of 7" in caplog.text


def test_it_gives_up_in_the_end(network):
    calls = []
    with pytest.raises(UnreachableError, match="no route"):
        list(retry.read_all(SOURCE, [failing(99, "a", calls)]))
    assert len(calls) == retry.ATTEMPTS
    assert network["waited"] == [2, 4, 8, 16, 32, 64]


def test_wrong_input_is_not_tried_again(network):
    calls = []
    with pytest.raises(InputError):
        list(retry.read_all(SOURCE, [failing(1, "a", calls, InputError)]))
    assert calls == ["a"]
    assert not network["waited"]
