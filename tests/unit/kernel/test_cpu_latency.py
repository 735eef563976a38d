from __future__ import annotations

import struct

import pytest

from ropeway.kernel import cpu_latency


@pytest.fixture
def file(monkeypatch, tmp_path):
    path = tmp_path / "cpu_dma_latency"
    path.write_bytes(b"")
    monkeypatch.setattr(cpu_latency, "PATH", str(path))
    return path


def written(file):
    return [value for (value,) in struct.iter_unpack("=i", file.read_bytes())]


def test_a_limit_is_asked_for_and_taken_back_as_often_as_need_be(file):
    request = cpu_latency.CpuLatency(20)
    assert written(file) == []
    request.hold()
    request.release()
    request.hold()
    assert written(file) == [20, -1, 20]
    request.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        request.hold()


@pytest.mark.parametrize("limit_us", [0, 1_000_000])
def test_limits_at_both_ends_fit(file, limit_us):
    request = cpu_latency.CpuLatency(limit_us)
    request.hold()
    request.close()
    assert written(file) == [limit_us]


def test_kernel_that_has_no_such_file_says_so(file):
    file.unlink()
    with pytest.raises(FileNotFoundError):
        cpu_latency.CpuLatency(0)
    assert not file.exists()


@pytest.mark.parametrize(
    ("driver", "heeded"),
    [("intel_idle\n", True), ("haltpoll\n", True), ("none\n", False), ("", False), (None, False)],
)
def test_no_limit_is_heeded_without_a_driver(monkeypatch, tmp_path, driver, heeded):
    path = tmp_path / "current_driver"
    if driver is not None:
        path.write_text(driver)
    monkeypatch.setattr(cpu_latency, "DRIVER_PATH", str(path))
    assert cpu_latency.is_heeded() == heeded
