import errno
import resource
import signal
import subprocess
import sys

import pytest
import torch

from censusformer.errors import InputError
from censusformer.training import checkpoints


def test_round_trip(tmp_path):
    checkpoints.save(tmp_path / "a.pt", "model", {"weights": torch.arange(3), "n": 1})
    content = checkpoints.load(tmp_path / "a.pt", "model")
    assert content["n"] == 1 and torch.equal(content["weights"], torch.arange(3))


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.pt", "b.pt"):
        checkpoints.save(tmp_path / name, "model", {"weights": torch.ones(5)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pt is damaged"):
        checkpoints.load(tmp_path / "a.pt", "model")


def test_another_kind_is_refused(tmp_path):
    checkpoints.save(tmp_path / "a.pt", "checkpoint", {})
    with pytest.raises(InputError, match="no model that censusformer wrote"):
        checkpoints.load(tmp_path / "a.pt", "model")


def test_a_disk_that_takes_no_more_is_told_as_one(tmp_path):
    """In a process of its own, which may write no file over 64 KB."""
    code = (
        "import sys, torch\nfrom censusformer.training import checkpoints\n"
        "try: checkpoints.save(sys.argv[1], 'model', {'weights': torch.ones(10**6)})\n"
        "except OSError as error: print(error.errno, error.filename)\n"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))

    command = [sys.executable, "-c", code, str(tmp_path / "a.pt")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(errno.EFBIG), str(tmp_path / "a.pt")], done.stderr
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_is_seen(tmp_path):
    """Anywhere in a tensor: torch.load alone returns other weights and says nothing."""
    path = tmp_path / "a.pt"
    checkpoints.save(path, "model", {"weights": torch.arange(4000.0)})
    good = path.read_bytes()
    for place in range(len(good) // 8, 7 * len(good) // 8, 97):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pt is damaged"):
            checkpoints.load(path, "model")
