"""Files that are opened once: each reading gives what they say at that moment."""

import os

import pytest

from ropeway.kernel.kept_file import KeptFile


@pytest.fixture
def kept():
    made = []

    def keep(path):
        made.append(KeptFile(str(path)))
        return made[-1]

    yield keep
    for file in made:
        file.close()


def test_each_reading_is_of_now(kept, tmp_path):
    path = tmp_path / "count"
    path.write_text("1\n")
    file = kept(path)
    assert file.read() == "1\n"
    path.write_text("22\n")
    assert [file.read(), file.read()] == ["22\n", "22\n"]


def test_the_kernel_makes_its_text_anew_for_each_reading(kept):
    file = kept("/proc/sys/kernel/random/uuid")
    assert file.read() != file.read()


def test_a_child_disturbs_no_reading(kept):
    file = kept("/proc/sys/kernel/random/boot_id")
    whole = file.read()
    child = os.fork()
    if child == 0:
        os._exit(file.read() != whole)
    assert os.waitpid(child, 0)[1] == 0
    assert file.read() == whole


def test_what_cannot_be_read_is_empty(kept, tmp_path):
    assert kept(tmp_path / "none").read() == ""
    # Opens, and fails each reading, as an attribute of a device that is gone does.
    assert kept(tmp_path).read() == ""
    closed = kept("/proc/version")
    closed.close()
    closed.close()
    assert closed.read() == ""
