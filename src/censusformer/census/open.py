"""Opening a census: a release of the CELLxGENE Census, or any SOMA in its layout, by one code path.

A mirror, or a server of one's own, is reached through environment variables:

`CENSUSFORMER_CENSUS_DIRECTORY`
    Base URL of the list of releases instead of CZI's: `release.json` and `mirrors.json` lie under it, in CZI's format.
`AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`), `AWS_REGION` (or `AWS_DEFAULT_REGION`)
    An S3 server other than Amazon's (`http://host:port`), and the region of a `census.uri` (default: us-west-2, where
    the Census lies; a release's own region stands in `mirrors.json`).
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`, ...
    Where one of the first two or a web identity is set, requests for a `census.uri` are signed. Releases are public:
    their requests never are, so that stale keys cannot get in the way.
`TILEDB_VFS_S3_...`
    Any other option of TileDB's S3 client (proxy, timeouts, retries); `TILEDB_VFS_S3_NO_SIGN_REQUEST` and
    `TILEDB_VFS_S3_REGION` win over the rules above.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cellxgene_census
import requests
import tiledbsoma
from cellxgene_census import _release_directory  # its URLs are module constants, with no other way to another list
from urllib3.util import Retry

from censusformer import files
from censusformer.errors import InputError

logger = logging.getLogger("censusformer")

#: Bytes that each column of a read may take; the Census's own default of 1 GiB passes a small machine's memory.
BUFFER_BYTES = 128 * 1024**2
#: Requests that one job has under way at a time; TileDB's default is the machine's number of cores, for each job.
CONNECTIONS = 8

#: Seconds until a connection, and until the next bytes of an answer, that a server of the list of releases is given.
TIMEOUTS = (10, 30)
#: Tries in all of a request to it, after 0, 1, 2 and 4 seconds.
TRIES = 5

_SIGNED_BY = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
_PUBLIC_URL = _release_directory.CELL_CENSUS_RELEASE_DIRECTORY_URL.rpartition("/")[0]


class _Patient(requests.Session):
    """Requests that end: cellxgene_census's own have no timeout, so that a silent server would hold a job for ever."""

    def __init__(self) -> None:
        super().__init__()
        again = Retry(TRIES - 1, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504))
        for scheme in ("http://", "https://"):
            self.mount(scheme, requests.adapters.HTTPAdapter(max_retries=again))

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{"timeout": TIMEOUTS, **options})


class UnreachableError(InputError):
    """The census could not be reached: worth another try."""


@dataclass(frozen=True)
class Source:
    """A census: exactly one of `version` (a release's date) and `uri` is set.

    Attributes
    ----------
    organism
        Its name in the Census: homo_sapiens, mus_musculus, ...
    name
        What the names of its chunks begin with.
    """

    organism: str
    name: str
    version: str | None = None
    uri: str | None = None

    @property
    def key(self) -> str:
        """The config key and its value, for messages."""
        return f"census.version = {self.version}" if self.version else f"census.uri = {self.uri}"

    @property
    def is_remote(self) -> bool:
        """Whether a network stands between."""
        return self.version is not None or "://" in str(self.uri)

    def to_json(self) -> str:
        """As text, without what is not set."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Source":
        """The way back from `to_json`."""
        return cls(**json.loads(text))


def uri_name(uri: str) -> str:
    """The name of a SOMA: the last part of its uri that is not `soma`, without odd characters."""
    parts = [part for part in uri.rpartition("://")[2].split("/") if part not in ("", "soma")]
    name = re.sub(r"[^\w.-]+", "_", parts[-1] if parts else "", flags=re.ASCII).strip(".-_")
    return f"soma_{name}".rstrip("_") if name in ("", "demo", "h5ad") else name  # the last two: the workflow's own


def tiledb_config(environ: Mapping[str, str], *, public: bool) -> dict[str, str | int]:
    """Options of TileDB that differ from the Census's defaults; see the module's page.

    Parameters
    ----------
    environ
        Environment variables.
    public
        Whether the data are public, so that no request is signed.
    """
    config: dict[str, str | int] = {"soma.init_buffer_bytes": BUFFER_BYTES, "py.init_buffer_bytes": BUFFER_BYTES}
    config["vfs.s3.max_parallel_ops"] = environ.get("TILEDB_VFS_S3_MAX_PARALLEL_OPS", CONNECTIONS)
    if endpoint := environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"):
        url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        config |= {"vfs.s3.endpoint_override": url.netloc + url.path.rstrip("/"), "vfs.s3.scheme": url.scheme}
        config["vfs.s3.use_virtual_addressing"] = "false"
    if region := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        config["vfs.s3.region"] = region
    if not public and any(environ.get(name) for name in _SIGNED_BY):
        config["vfs.s3.no_sign_request"] = "false"
    for option in ("no_sign_request", "region"):  # set by cellxgene_census, so that TileDB would not look
        if value := environ.get(f"TILEDB_VFS_S3_{option.upper()}"):
            config[f"vfs.s3.{option}"] = value
    return config


def resolve(version: str, remembered: Path | None = None) -> str:
    """The date of a release.

    Parameters
    ----------
    version
        `stable`, another alias, or a date.
    remembered
        A JSON file of the dates that aliases were resolved to. An alias that stands there keeps its date, so that a
        new release does not move a data set; else its date is added.

    Raises
    ------
    InputError
        If there is no such release, or the list of releases cannot be read.
    """
    dates = _read_dates(remembered)
    date = dates.get(version)
    releases = release_directory()
    if date is None:
        if version not in releases:
            raise InputError(_no_release(version, releases))
        date = str(releases[version]["release_build"])
    if not releases.get(date, {}).get("flags", {}).get("lts", False):
        logger.warning(
            "census.version = %s is no long-term release: weekly releases vanish after about a month, and this run "
            "cannot be repeated then; long-term releases: %s",
            version,
            ", ".join(_long_term(releases)) or "none",
        )
    if remembered is not None and date != version and version not in dates:
        with files.atomic(remembered) as temporary:
            temporary.write_text(json.dumps({**dates, version: date}, indent=2, sort_keys=True) + "\n")
    return date


def release_directory() -> Mapping[str, Mapping]:
    """All releases and aliases but retracted ones, as `cellxgene_census.get_census_version_directory` has them.

    Raises
    ------
    UnreachableError
        If the list cannot be read.
    """
    url = _redirect()
    try:
        return cellxgene_census.get_census_version_directory()
    except (requests.RequestException, OSError) as error:
        raise UnreachableError(
            f"census.version: the list of Census releases at {url}/release.json cannot be read ({_short(error)}). "
            "Check the network and its proxy, or set census.uri to a copy of the Census instead"
        ) from error


@contextlib.contextmanager
def open_census(source: Source) -> Iterator[tiledbsoma.Collection]:
    """Open a census for reading.

    Raises
    ------
    UnreachableError
        If a remote census cannot be reached or read, at once or later in the block.
    InputError
        If there is no such release, no such uri, or what stands there is no census.
    """
    with _open(source) as census:
        if "census_data" not in census or "census_info" not in census:
            raise InputError(
                f"{source.key}: this SOMA has not the Census's layout (census_info, census_data/{{organism}}). "
                "`censusformer ingest` makes such a SOMA from h5ad files"
            )
        with reading(source):
            yield census


def experiment(census: tiledbsoma.Collection, source: Source) -> tiledbsoma.Experiment:
    """The organism's experiment."""
    organisms = sorted(census["census_data"].keys())
    if source.organism not in organisms:
        raise InputError(
            f"census.organism = {source.organism}: {source.key} has no such organism, but {', '.join(organisms)}"
        )
    return census["census_data"][source.organism]


@contextlib.contextmanager
def reading(source: Source) -> Iterator[None]:
    """Turn TileDB's errors into messages: another try may help where the census is remote."""
    try:
        yield
    except tiledbsoma.DoesNotExistError as error:
        raise InputError(
            f"{source.key}: there is no SOMA ({_short(error)}). Give the folder or s3:// address that holds "
            "census_info and census_data"
        ) from error
    except (tiledbsoma.SOMAError, requests.RequestException) as error:
        if "Response Code: 403" in str(error):
            raise InputError(
                f"{source.key}: access is denied ({_short(error)}). For a private bucket set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
            ) from error
        if source.is_remote:
            raise UnreachableError(
                f"{source.key}: cannot be read ({_short(error)}). Check the address, the network and its proxy"
            ) from error
        raise InputError(f"{source.key}: cannot be read ({_short(error)}); is it whole?") from error


def _open(source: Source) -> tiledbsoma.Collection:
    _redirect()
    context = cellxgene_census.get_default_soma_context(tiledb_config(os.environ, public=source.version is not None))
    try:
        with reading(source):
            if source.version is not None:
                return cellxgene_census.open_soma(census_version=source.version, context=context)
            return cellxgene_census.open_soma(uri=_absolute(str(source.uri)), context=context)
    except ValueError as error:  # cellxgene_census: no such version
        raise InputError(_no_release(str(source.version), release_directory())) from error


def _redirect() -> str:
    """Point cellxgene_census at the list of releases; its base URL."""
    base = os.environ.get("CENSUSFORMER_CENSUS_DIRECTORY", _PUBLIC_URL).rstrip("/")
    _release_directory.CELL_CENSUS_RELEASE_DIRECTORY_URL = f"{base}/release.json"
    _release_directory.CELL_CENSUS_MIRRORS_DIRECTORY_URL = f"{base}/mirrors.json"
    _release_directory.requests = _Patient()
    return base


def _read_dates(remembered: Path | None) -> dict[str, str]:
    if remembered is None or not remembered.exists():
        return {}
    try:
        dates = json.loads(remembered.read_text())
        return {str(version): str(date) for version, date in dates.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{remembered} is damaged ({error}); delete it, and the versions are resolved anew") from error


def _long_term(releases: Mapping[str, Mapping]) -> list[str]:
    dates = {str(release["release_build"]) for release in releases.values() if release.get("flags", {}).get("lts")}
    return sorted(dates, reverse=True)


def _no_release(version: str, releases: Mapping[str, Mapping]) -> str:
    return (
        f"census.version = {version}: there is no such release (weekly ones vanish after about a month, a few were "
        f"retracted). Take 'stable' or a long-term release: {', '.join(_long_term(releases)) or 'none is listed'}"
    )


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


def _short(error: BaseException) -> str:
    """The first line of a message; TileDB and requests add stack traces and whole requests."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
