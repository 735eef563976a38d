from __future__ import annotations

from pathlib import Path

from tests.lab.roots import Overlay

from . import deb, tree

# The numbers of /dev/null, so that nothing reaches this machine's own device.
A_DEVICE_WITHOUT_UDEV = "mknod -m 0600 /dev/cpu_dma_latency c 1 3"
APT = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends")
QUIETLY = ("env", "DEBIAN_FRONTEND=noninteractive")
# As /usr/bin/ropeway begins, and then as the steward does.
LINKS_BY_PYROUTE2 = """
import sys
sys.path.insert(0, "/usr/lib/ropeway")
from ropeway.steward import vendored
vendored.provide()
from pyroute2.config.version import __version__
from pyroute2.iproute import linux
with linux.IPRoute() as netlink:
    names = [link.get_attr("IFLA_IFNAME") for link in netlink.get_links()]
print(linux.__file__, __version__ == vendored.PYROUTE2_VERSION, "lo" in names)
"""


def apt(overlay: Overlay, *words: str, package: Path) -> str:
    """apt-get inside, with the directory of `package` at /mnt."""
    done = overlay.run([*QUIETLY, *APT, "--yes", *words], binds=[f"{package.parent}:/mnt"])
    return done.stdout + done.stderr


def test_purge_leaves_what_was_there_before(minimal: Overlay, package: Path) -> None:
    apt(minimal, "update", package=package)
    apt(minimal, "satisfy", deb.field(package, "Depends"), package=package)
    before = tree.listing(minimal.root)

    said = apt(minimal, "install", f"/mnt/{package.name}", package=package)
    assert "Warning" not in said
    version = minimal.run(["ropeway", "--version"]).stdout
    assert deb.field(package, "Version") in version
    settings = minimal.root / "etc/ropeway"
    owner = minimal.run(["stat", "-c", "%U:%G %a", "/etc/ropeway"]).stdout.strip()
    assert owner == "root:ropeway 750"
    (settings / "ropeway.yaml").write_text("encapsulation: classic\n")
    key = minimal.run(["ropeway", "genkey"]).stdout
    assert minimal.run(["ropeway", "pubkey"]).stdout == key
    owner = minimal.run(["stat", "-c", "%U %a", "/etc/ropeway/private.key"]).stdout.strip()
    assert owner == "ropeway 600"
    minimal.run(["ropeway", "genkey", "--file", "/etc/ropeway/private.key.next"])
    (minimal.root / "var/lib/ropeway").mkdir(mode=0o700)
    (minimal.root / "var/lib/ropeway/ropeway0.epoch").write_text("1\n")
    installed = tree.differences(before, tree.listing(minimal.root))
    assert [line for line in installed if line.startswith("/usr/lib/ropeway/")]
    assert [line for line in installed if line.startswith("/etc/passwd:")]

    apt(minimal, "purge", "ropeway", package=package)
    assert tree.differences(before, tree.listing(minimal.root)) == []


def test_the_agent_uses_its_own_pyroute2_and_nothing_else_does(
    host: Overlay, package: Path
) -> None:
    look = ["python3", "-I", "-c", LINKS_BY_PYROUTE2]
    own = "/usr/lib/ropeway/vendored/pyroute2/iproute/linux.py True True\n"
    apt(host, "install", f"/mnt/{package.name}", package=package)
    assert f"{own.split()[0]}\n" in host.run(["dpkg", "-L", "ropeway"]).stdout
    # Compiled as it was installed, since the agent may not write there.
    compiled = host.root / "usr/lib/ropeway/vendored/pyroute2/iproute/__pycache__"
    assert list(compiled.glob("linux.*.pyc"))
    assert host.run(look).stdout == own
    of_all = ["python3", "-c", "import pyroute2; print(pyroute2.__file__)"]
    assert "No module named 'pyroute2'" in host.run(of_all, check=False).stderr

    apt(host, "update", package=package)
    apt(host, "install", "python3-pyroute2", package=package)
    assert host.run(of_all).stdout == "/usr/lib/python3/dist-packages/pyroute2/__init__.py\n"
    assert host.run(look).stdout == own

    apt(host, "purge", "ropeway", package=package)
    assert not (host.root / "usr/lib/ropeway").exists()
    assert host.run(of_all).stdout == "/usr/lib/python3/dist-packages/pyroute2/__init__.py\n"


def test_purge_spares_what_others_put_into_etc(host: Overlay, package: Path) -> None:
    apt(host, "install", f"/mnt/{package.name}", package=package)
    foreign = host.root / "etc/ropeway/notes"
    foreign.write_text("mine\n")
    apt(host, "purge", "ropeway", package=package)
    assert foreign.read_text() == "mine\n"
    assert host.run(["stat", "-c", "%U:%G", "/etc/ropeway"]).stdout.strip() == "root:ropeway"


def test_without_udev_the_latency_device_stays_roots(host: Overlay, package: Path) -> None:
    # In one go, because /dev lasts no longer than that; the second owner is what udev would give.
    script = f"""set -e
        {A_DEVICE_WITHOUT_UDEV}
        show() {{ stat -c %U:%G:%a /dev/cpu_dma_latency >&3; }}
        {{
            {" ".join(APT)} --yes install /mnt/{package.name}; show
            chgrp ropeway /dev/cpu_dma_latency; chmod 0660 /dev/cpu_dma_latency; show
            {" ".join(APT)} --yes remove ropeway; show
            chgrp ropeway /dev/cpu_dma_latency; chmod 0660 /dev/cpu_dma_latency
            {" ".join(APT)} --yes purge ropeway; show
        }} 3>&1 >&2"""
    done = host.run([*QUIETLY, "sh", "-c", script], binds=[f"{package.parent}:/mnt"])
    assert done.stdout.split() == [
        "root:root:600",
        "root:ropeway:660",
        "root:root:600",
        "root:root:600",
    ]
    assert "udevadm" not in done.stdout + done.stderr


def test_purge_spares_a_latency_device_of_others(host: Overlay, package: Path) -> None:
    script = f"""set -e
        {A_DEVICE_WITHOUT_UDEV}
        {{
            {" ".join(APT)} --yes install /mnt/{package.name}
            chgrp audio /dev/cpu_dma_latency; chmod 0664 /dev/cpu_dma_latency
            {" ".join(APT)} --yes purge ropeway
        }} >&2
        stat -c %U:%G:%a /dev/cpu_dma_latency"""
    done = host.run([*QUIETLY, "sh", "-c", script], binds=[f"{package.parent}:/mnt"])
    assert done.stdout.split() == ["root:audio:664"]
