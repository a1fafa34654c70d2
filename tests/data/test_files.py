import errno

import pytest

from winnow.errors import MachineError
from winnow.files import atomic_write


def test_bytes_and_functions_are_written(tmp_path):
    atomic_write(tmp_path / "a", b"one")
    atomic_write(tmp_path / "b", lambda file: file.write(b"two"))

    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"one", b"two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("a bug")])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises((MachineError, ValueError)) as caught:
        atomic_write(path, fail)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert "the disk is full: 4 bytes or more are needed" in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(MachineError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "a", b"x")
