"""Opening a census by version and by uri, and what is said where that fails."""

import json
import socket

import pytest
import small_census
from small_census import releases

from censusformer.census import open as opening
from censusformer.census.open import Source, UnreachableError, experiment, open_census, resolve, tiledb_config, uri_name
from censusformer.errors import InputError

DATES = {"2025-11-08": True, "2024-07-01": True, "2026-11-16": False}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A list of three releases."""
    with releases(tmp_path / "releases", DATES) as url:
        monkeypatch.setenv("CENSUSFORMER_CENSUS_DIRECTORY", url)
        yield tmp_path / "releases"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/cell-census/2025-11-08/soma/", "2025-11-08"),
        ("/data/my census", "my_census"),
        ("results/census/demo", "soma_demo"),
        ("s3://bucket", "bucket"),
        ("soma", "soma"),
    ],
)
def test_a_uri_gives_a_name_without_odd_characters(uri, name):
    assert uri_name(uri) == name


def test_stable_is_resolved_once_and_stays(tmp_path, directory):
    remembered = tmp_path / "deep" / "stable.json"
    assert resolve("stable", remembered) == "2025-11-08"
    assert json.loads(remembered.read_text()) == {"stable": "2025-11-08"}
    listed = json.loads((directory / "release.json").read_text())
    (directory / "release.json").write_text(json.dumps({**listed, "stable": "2024-07-01"}))
    assert resolve("stable", remembered) == "2025-11-08"
    assert resolve("stable") == "2024-07-01"


def test_a_date_is_its_own_and_nothing_is_remembered(tmp_path, directory):
    assert resolve("2024-07-01", tmp_path / "stable.json") == "2024-07-01"
    assert not (tmp_path / "stable.json").exists()


def test_weekly_releases_warn(directory, caplog):
    with caplog.at_level("WARNING", logger="censusformer"):
        assert resolve("2025-11-08") == "2025-11-08"
        assert not caplog.records
        assert resolve("latest") == "2026-11-16"
    assert "weekly releases vanish" in caplog.text
    assert "2025-11-08, 2024-07-01" in caplog.text


def test_an_unknown_version_lists_the_long_term_ones(directory):
    with pytest.raises(InputError, match=r"census.version = 2025-11-09: .*2025-11-08, 2024-07-01"):
        resolve("2025-11-09")
    with pytest.raises(InputError, match=r"census.version = 2025-11-09: .*2025-11-08, 2024-07-01"):
        open_census(Source("homo_sapiens", "x", version="2025-11-09")).__enter__()


def test_a_list_of_releases_out_of_reach_is_named(monkeypatch):
    monkeypatch.setenv("CENSUSFORMER_CENSUS_DIRECTORY", "http://127.0.0.1:9/x")
    with pytest.raises(UnreachableError, match=r"census.version: .*127.0.0.1:9/x/release.json.*census.uri"):
        resolve("stable")


def test_damaged_memory_is_named(tmp_path, directory):
    (tmp_path / "stable.json").write_text("[]")
    with pytest.raises(InputError, match=r"stable\.json is damaged"):
        resolve("stable", tmp_path / "stable.json")


def test_a_uri_without_a_soma_is_named(tmp_path):
    source = Source("homo_sapiens", "x", uri=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"census.uri = .*none: there is no SOMA"), open_census(source):
        pass


def test_a_soma_of_another_layout_is_refused(tmp_path):
    import tiledbsoma

    tiledbsoma.Collection.create(str(tmp_path / "other")).close()
    source = Source("homo_sapiens", "x", uri=str(tmp_path / "other"))
    with pytest.raises(InputError, match="not the Census's layout"), open_census(source):
        pass


def test_a_relative_uri_and_a_wrong_organism(tmp_path, monkeypatch):
    small_census.write(tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    source = Source("mus_musculus", "x", uri="small")
    with open_census(source) as census:
        with pytest.raises(InputError, match=r"census.organism = mus_musculus: .* homo_sapiens"):
            experiment(census, source)
        assert experiment(census, Source("homo_sapiens", "x", uri="small")).obs.count == 1290


def test_a_damaged_census_is_named(tmp_path):
    small_census.write(tmp_path / "small")
    for path in (tmp_path / "small/census_data/homo_sapiens/obs/__fragments").rglob("*.tdb"):
        path.write_bytes(b"")
    source = Source("homo_sapiens", "x", uri=str(tmp_path / "small"))
    with pytest.raises(InputError, match="is it whole"), open_census(source) as census:
        experiment(census, source).obs.read().concat()


def test_sources_survive_json():
    for source in (
        Source("homo_sapiens", "demo", uri="a/b"),
        Source("mus_musculus", "2025-11-08", version="2025-11-08"),
    ):
        assert Source.from_json(source.to_json()) == source


def test_a_server_of_ones_own():
    env = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:5000/", "AWS_REGION": "eu-1", "AWS_ACCESS_KEY_ID": "k"}
    config = tiledb_config(env, public=False)
    assert config["vfs.s3.endpoint_override"] == "127.0.0.1:5000"
    assert config["vfs.s3.scheme"] == "http"
    assert config["vfs.s3.region"] == "eu-1"
    assert config["vfs.s3.no_sign_request"] == "false"
    assert "vfs.s3.no_sign_request" not in tiledb_config(env, public=True)
    assert tiledb_config({}, public=False) == {
        "soma.init_buffer_bytes": opening.BUFFER_BYTES,
        "py.init_buffer_bytes": opening.BUFFER_BYTES,
        "vfs.s3.max_parallel_ops": opening.CONNECTIONS,
    }
    assert tiledb_config({"TILEDB_VFS_S3_MAX_PARALLEL_OPS": "2"}, public=True)["vfs.s3.max_parallel_ops"] == "2"
    assert tiledb_config({"TILEDB_VFS_S3_REGION": "x"}, public=True)["vfs.s3.region"] == "x"


def test_a_silent_list_of_releases_does_not_hold_for_ever(monkeypatch):
    """A server that takes the connection and says nothing; the Census's own client has no timeout."""
    monkeypatch.setattr(opening, "TIMEOUTS", (0.2, 0.2))
    monkeypatch.setattr(opening, "TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("CENSUSFORMER_CENSUS_DIRECTORY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UnreachableError, match="the list of Census releases at"):
            opening.release_directory()
