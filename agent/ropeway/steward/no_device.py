"""Why the virtual device cannot be made, and what to do about it, on a host and in a container."""

from __future__ import annotations

import errno

from ropeway.kernel import process, tun

IN_USE = {
    errno.EBUSY: "another process holds it; stop that one or choose another device.name",
    errno.EINVAL: "an interface of that name stands already; choose another device.name",
}
NO_TUN = {
    errno.ENOENT: f"there is no {tun.PATH}: load the kernel module tun with `modprobe tun`",
    errno.ENODEV: "the kernel has no TUN devices: load its module with `modprobe tun`",
    errno.ENXIO: "the kernel has no TUN devices: load its module with `modprobe tun`",
    errno.EPERM: "give the agent CAP_NET_ADMIN and CAP_NET_RAW, as its service does",
    errno.EACCES: f"give the agent's user access to {tun.PATH}, whose usual mode is 0666",
}
# docker-run(1), systemd-nspawn(1), lxc.container.conf(5)
CONTAINERS = {
    "docker": f"start it with --device {tun.PATH} --cap-add NET_ADMIN --cap-add NET_RAW",
    "podman": f"start it with --device {tun.PATH} --cap-add NET_ADMIN --cap-add NET_RAW",
    "systemd-nspawn": (
        f"start it with --bind {tun.PATH} --property 'DeviceAllow={tun.PATH} rw'"
        " --capability CAP_NET_ADMIN,CAP_NET_RAW"
    ),
    "lxc": (
        f"its configuration needs lxc.mount.entry = {tun.PATH} {tun.PATH[1:]} none"
        " bind,create=file and lxc.cgroup2.devices.allow = c 10:200 rwm"
    ),
}


def why(name: str, error: OSError) -> str:
    """Return a sentence that says why there is no device `name`, after `error` of the kernel."""
    code = error.errno or 0
    container = process.container()
    if code in NO_TUN and container is not None:
        return f"the device {name} cannot be made: {_inside(code, container)}"
    advice = IN_USE.get(code) or NO_TUN.get(code, "look at the kernel's log")
    return f"the device {name} cannot be made ({error.strerror or error}): {advice}"


def _inside(code: int, container: str) -> str:
    """Return the end of the sentence in a container, whose host has to be told."""
    what = {
        errno.EPERM: f"the container may not use {tun.PATH} or lacks CAP_NET_ADMIN",
        errno.EACCES: f"the agent's user may not open {tun.PATH} in the container",
    }.get(code, f"the container has no {tun.PATH}, or its host has not the kernel module tun")
    otherwise = f"give it {tun.PATH}, CAP_NET_ADMIN and CAP_NET_RAW"
    return what + ": " + CONTAINERS.get(container, otherwise)
