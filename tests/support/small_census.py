"""A small census of drawn counts in the Census's layout, and servers that stand for S3 and the list of releases."""

import contextlib
import functools
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from censusformer.census.layout import write_census
from censusformer.census.parts import Part

STRANGE = 'O\'Brien "x"/../ü; --'
#: (dataset, collection, {donor: cells}); in alpha and beta, d1 is one person by name and collection
DATASETS = [
    ("alpha", "C1", {"d1": 120, "d2": 80, "unknown": 60, STRANGE: 90, "tiny": 5}),
    ("beta", "C1", {"d1": 100, "e1": 70, "e2": 75}),
    ("gamma", "C2", {"d1": 110, "big": 400, "g1": 85, "g2": 95}),
]
N_GENES = 60


def parts(*, fraction_in="", persons=False, digests=True):
    """Datasets with Poisson counts; every tenth cell is no primary data; donors' cells are interleaved."""
    for number, (dataset, collection, donors) in enumerate(DATASETS):
        rng = np.random.default_rng(number)
        donor = rng.permutation(np.repeat(list(donors), list(donors.values())))
        counts = rng.poisson(rng.gamma(0.3, 2, N_GENES), (len(donor), N_GENES)).astype(np.float32)
        counts[:, 0] += 1
        if dataset == fraction_in:
            counts[7, 0] += 0.5
        obs = pd.DataFrame(
            {
                "observation_joinid": [f"{dataset}-{i}" for i in range(len(donor))],
                "donor_id": donor,
                "cell_type": rng.choice(["B cell", "T cell"], len(donor)),
                "tissue_general": "blood",
                "is_primary_data": np.arange(len(donor)) % 10 != 9,
                "score": rng.random(len(donor)),
            }
        )
        if persons:
            obs["person"] = [f"{dataset} {name}" if name != "e1" else "alpha d2" for name in donor]
        first = 10 * number  # gene lists differ
        var = pd.DataFrame({"feature_id": [f"ENSG{i:011d}" for i in range(first, first + N_GENES)]})
        var["feature_name"] = "G" + var["feature_id"].str[-3:]
        told = {"dataset_id": dataset, "collection_id": collection, "dataset_title": dataset.title(), "citation": "X"}
        yield Part(told, obs, var, sparse.csr_matrix(counts))


def write(folder, **options):
    """Write the census; its path as text."""
    write_census(folder, parts(**options))
    return str(folder)


def all_counts(names, genes):
    """The counts of these cells (observation_joinid) and genes (feature_id), dense; 0 where a gene was not measured."""
    tables = [pd.DataFrame(p.counts.toarray(), p.obs["observation_joinid"], p.var["feature_id"]) for p in parts()]
    return pd.concat(tables).reindex(index=names, columns=genes).fillna(0).to_numpy()


def select_options(out, *more):
    """Options of `select` for the small census, writing under `out`."""
    files = ["--out", out / "chunks", "--samples", out / "samples.parquet", "--provenance", out / "provenance.json"]
    settings = ["--census-filter", "is_primary_data == True", "--census-max-cells", 900, "--census-test-cells", 100]
    return ["select", *map(str, [*files, *settings, "--chunk-cells", 250, *more])]


@contextlib.contextmanager
def releases(folder, dates, *, base_uri="s3://census/", stable=None):
    """A list of releases on the loopback; {date: is it long-term}. Yields the base URL."""
    folder.mkdir(exist_ok=True)
    listed = {"stable": stable or max(date for date, lts in dates.items() if lts), "latest": max(dates)}
    for date, lts in dates.items():
        place = {"uri": f"s3://census/{date}/soma/", "relative_uri": f"/{date}/soma/", "s3_region": "us-west-2"}
        flags = {"lts": lts, "retracted": False}
        listed[date] = {"release_date": None, "release_build": date, "soma": place, "h5ads": place, "flags": flags}
    mirror = {"provider": "S3", "base_uri": base_uri, "region": "us-west-2"}
    (folder / "release.json").write_text(json.dumps(listed))
    (folder / "mirrors.json").write_text(json.dumps({"default": "here", "here": mirror}))
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        """Say nothing."""


@contextlib.contextmanager
def s3_server(folder, prefix):
    """A SOMA folder in the bucket `census` of moto's S3 server, readable without keys. Yields the server's URL."""
    import boto3  # slow imports, for the tests that need them
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", endpoint_url=url, region_name="us-west-2", **keys)
        client.create_bucket(Bucket="census", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        for path in Path(folder).rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder)}"
                client.put_object(Bucket="census", Key=key, Body=path.read_bytes(), ACL="public-read")
        yield url
        requests.post(f"{url}/moto-api/reset", timeout=10)  # moto keeps its buckets in the process
    finally:
        server.stop()
