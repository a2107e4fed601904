"""What the tests of the steps on expression share."""

import pytest
from raw_chunk import prepare, two_chunks


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two raw chunks and what count, genes and hvg make of them; not to be written to."""
    folder = tmp_path_factory.mktemp("data")
    return prepare(folder, two_chunks(folder))
