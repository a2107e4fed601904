import errno

import pytest

from censusformer.files import atomic, atomic_folder


def test_file_appears_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists() and temporary.suffix == ".txt"
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_disk_errors_name_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as error, atomic(tmp_path / "a.bin"):
        raise OSError(errno.ENOSPC, "write failed")
    assert error.value.filename == str(tmp_path / "a.bin")


def test_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    folder = tmp_path / "new" / "lists"
    for text in ("old", "new"):
        with atomic_folder(folder) as temporary:
            (temporary / "part").mkdir(parents=True)
            (temporary / "part" / text).write_text(text)
    assert [path.name for path in folder.rglob("*")] == ["part", "new"]
    assert list(folder.parent.iterdir()) == [folder]


def test_folder_that_fails_keeps_the_old_one(tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(RuntimeError), atomic_folder(folder) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["kept"] and list(tmp_path.iterdir()) == [folder]
