"""A sample of what `make faults` does to a census on S3: downloads end with the right bytes."""

import pytest

from . import network


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cloud")
    with network.cloud(folder) as (s3, listed):
        yield folder, s3, listed, network.undisturbed(folder / "undisturbed", s3, listed)


@pytest.mark.parametrize("mode", ["cut", "vanish"])
def test_a_census_that_is_disturbed_is_read_as_it_is(cloud, mode, capsys):
    folder, s3, listed, expected = cloud
    outcome = network.disturbed(folder / mode, s3, listed, expected, mode, share=0.05, away=5)
    assert not outcome.lost and not outcome.wrong
    assert "Traceback" not in capsys.readouterr().err
