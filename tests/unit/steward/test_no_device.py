"""What a user is told where the device cannot be made."""

from __future__ import annotations

import errno
import os

import pytest

from ropeway.steward import no_device


def why(code, monkeypatch, container=None):
    monkeypatch.setattr(no_device.process, "container", lambda: container)
    return no_device.why("ropeway0", OSError(code, os.strerror(code)))


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOENT, "No such file or directory): there is no /dev/net/tun: load the kernel"),
        (errno.ENODEV, "No such device): the kernel has no TUN devices: load its module with"),
        (errno.EPERM, "Operation not permitted): give the agent CAP_NET_ADMIN and CAP_NET_RAW"),
        (errno.EACCES, "Permission denied): give the agent's user access to /dev/net/tun"),
        (errno.EBUSY, "Device or resource busy): another process holds it"),
        (errno.ENOMEM, "Cannot allocate memory): look at the kernel's log"),
    ],
)
def test_host(monkeypatch, code, advice):
    assert why(code, monkeypatch).startswith(f"the device ropeway0 cannot be made ({advice}")


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENODEV, errno.EPERM, errno.EACCES])
@pytest.mark.parametrize(
    ("container", "advice"),
    [
        ("docker", "start it with --device /dev/net/tun --cap-add NET_ADMIN --cap-add NET_RAW"),
        ("podman", "start it with --device /dev/net/tun --cap-add NET_ADMIN --cap-add NET_RAW"),
        ("systemd-nspawn", "start it with --bind /dev/net/tun --property 'DeviceAllow="),
        ("lxc", "lxc.mount.entry = /dev/net/tun dev/net/tun none bind,create=file"),
        ("other", "give it /dev/net/tun, CAP_NET_ADMIN and CAP_NET_RAW"),
    ],
)
def test_container_names_what_its_host_has_to_do(monkeypatch, code, container, advice):
    sentence = why(code, monkeypatch, container)
    assert "container" in sentence
    assert "/dev/net/tun" in sentence.partition(advice)[0]
    assert advice in sentence
    assert "modprobe" not in sentence


def test_container_has_nothing_to_do_with_a_device_in_use(monkeypatch):
    assert "another process holds it" in why(errno.EBUSY, monkeypatch, "docker")
