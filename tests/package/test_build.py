from __future__ import annotations

import os
import runpy
import shutil
import sys
import time
import zipfile
from pathlib import Path

from tests.lab import process

from . import deb

LOAD_ALL = """
import importlib, pathlib, sys, types
home = pathlib.Path(sys.argv[1])
sys.modules["pyroute2"] = types.ModuleType("pyroute2")
sys.modules["pyroute2"].__path__ = [str(home / "pyroute2")]
for path in sorted(home.rglob("*.py")):
    name = ".".join(path.relative_to(home).with_suffix("").parts).replace(".__init__", "")
    importlib.import_module(name)
    print(name)
"""


def test_two_builds_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    elsewhere = {**os.environ, "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "HOME": str(tmp_path)}
    # What the package contains of others was downloaded for the first build.
    elsewhere["PIP_NO_INDEX"] = "1"
    (tmp_path / "dist").mkdir()
    # What another release left; deb.build finds one package only.
    (tmp_path / "dist" / "ropeway_0.0.9_all.deb").write_bytes(b"")
    previous = os.umask(0o077)
    try:
        again = deb.build(tmp_path / "another place", tmp_path / "dist", env=elsewhere)
    finally:
        os.umask(previous)
    assert again.read_bytes() == package.read_bytes()


def test_every_time_stamp_is_that_of_the_release(package: Path) -> None:
    changelog = ["dpkg-parsechangelog", "-l", str(deb.CHECKOUT / "agent/debian/changelog")]
    released = int(process.run([*changelog, "-S", "Timestamp"]).stdout)
    assert set(deb.times(package)) == {time.strftime("%Y-%m-%d %H:%M", time.gmtime(released))}


def test_lintian_finds_no_error(package: Path) -> None:
    # Warnings come and go with lintian's release, and are only shown.
    argv = ["lintian", "--profile", "debian", "--fail-on", "error", str(package)]
    print(process.run(argv, timeout_s=120).stdout)


def test_it_fits_every_machine(package: Path) -> None:
    assert deb.field(package, "Architecture") == "all"
    assert "python3:any (>= 3.8~)" in deb.field(package, "Depends")
    assert "python3-cryptography (>= 2.8)" in deb.field(package, "Depends")
    # What seals quickly is there, or cannot be had and is not needed.
    assert "libsodium23 | python3-cryptography (>= 43)" in deb.field(package, "Depends")
    # dpkg of Debian 11 reads xz, not zstd.
    members = package.read_bytes()
    assert b"data.tar.xz" in members
    assert b"control.tar.xz" in members


def test_it_holds_what_it_promises(package: Path) -> None:
    contents = deb.contents(package)
    for path in (
        "/usr/bin/ropeway",
        "/usr/bin/ropeway-exporter",
        "/usr/lib/ropeway/ropeway/app/monitor/page/page.html",
        "/usr/lib/ropeway/ropeway/app/monitor/page/page.js",
        "/usr/lib/ropeway/ropeway/app/cli.py",
        "/usr/share/doc/ropeway/NEWS.Debian.gz",
        "/usr/share/doc/ropeway/PROTOCOL.md.gz",
        "/usr/share/doc/ropeway/copyright",
        "/usr/share/doc/ropeway/examples/classic.yaml",
        "/usr/share/doc/ropeway/examples/ropeway.yaml",
        "/usr/share/doc/ropeway/ropeway.lua",
        "/usr/share/man/man8/ropeway-exporter.8.gz",
        "/usr/share/man/man8/ropeway.8.gz",
        "/usr/share/ropeway/ropeway.dashboard.json",
        "/usr/share/ropeway/ropeway.rules.yml",
    ):
        assert contents[path].startswith("-r"), path
    schema = contents["/usr/share/ropeway/config.schema.json"]
    assert schema.endswith("../../lib/ropeway/ropeway/app/config/config.schema.json")
    for command in ("budget", "check-config", "cleanup", "decrypt", "explain"):
        schema = contents[f"/usr/share/ropeway/{command}.schema.json"]
        place = f"../../lib/ropeway/ropeway/app/commands/{command}.schema.json"
        assert schema.endswith(place)
    schema = contents["/usr/share/ropeway/status.schema.json"]
    assert schema.endswith("../../lib/ropeway/ropeway/app/control/status.schema.json")


def test_the_exporter_runs_only_where_somebody_enables_it(package: Path, tmp_path: Path) -> None:
    process.run(["dpkg-deb", "--control", str(package), str(tmp_path)])
    postinst = (tmp_path / "postinst").read_text()
    # It is enabled again only where an administrator had enabled it.
    assert "was-enabled 'ropeway-exporter.service'" in postinst
    assert "debian-installed 'ropeway-exporter.service'" in postinst
    assert "start 'ropeway-exporter.service'" not in postinst
    assert "systemctl try-restart ropeway-exporter.service" in postinst
    assert deb.field(package, "Recommends") == "python3-prometheus-client, python3-rich"


def test_it_brings_the_pinned_pyroute2_along(package: Path, tmp_path: Path) -> None:
    deb.extract(package, tmp_path)
    version = runpy.run_path(str(tmp_path / deb.VENDORED / "pyroute2/config/version.py"))
    pins = (deb.CHECKOUT / ".config/requirements/vendored.txt").read_text()
    assert f"pyroute2=={version['__version__']} --hash=sha256:" in pins


def test_its_pyroute2_is_that_of_its_authors(package: Path, tmp_path: Path) -> None:
    deb.extract(package, tmp_path / "package")
    fetched = process.run([str(deb.CHECKOUT / ".config/fetch-vendored")]).stdout.split()
    for wheel in fetched:
        zipfile.ZipFile(wheel).extractall(tmp_path / "wheel")
    files = [path for path in (tmp_path / "package" / deb.VENDORED).rglob("*") if path.is_file()]
    assert files
    for path in files:
        original = tmp_path / "wheel" / path.relative_to(tmp_path / "package" / deb.VENDORED)
        assert path.read_bytes() == original.read_bytes()


def test_without_the_library_and_a_network_the_build_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(deb.CHECKOUT / ".config", tmp_path / ".config")
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}
    fetch = str(tmp_path / ".config/fetch-vendored")
    # This machine's own Python need not have pip; that is said in the same way.
    said = process.run([fetch], check=False, env=env)
    assert said.returncode == 1
    (sentence,) = [
        line for line in said.stderr.splitlines() if line.startswith("fetch-vendored: pip")
    ]
    assert f"put pyroute2-0.7.12-py3-none-any.whl into {tmp_path}/build/vendored" in sentence


def test_its_parts_of_pyroute2_need_nothing_that_is_not_in_it(
    package: Path, tmp_path: Path
) -> None:
    deb.extract(package, tmp_path)
    # Neither the environment nor the directories of the system's own modules count.
    argv = [sys.executable, "-I", "-S", "-c", LOAD_ALL, str(tmp_path / deb.VENDORED)]
    loaded = process.run(argv).stdout.split()
    assert "pyroute2.iproute.linux" in loaded
    assert "pyroute2.netlink.nfnetlink.nftsocket" in loaded


def test_no_module_of_the_agent_finds_pyroute2_by_itself(package: Path, tmp_path: Path) -> None:
    deb.extract(package, tmp_path)
    look = "import sys; sys.path.insert(0, sys.argv[1]); from importlib.util import find_spec"
    look += "; print(find_spec('ropeway') is not None, find_spec('pyroute2') is not None)"
    argv = [sys.executable, "-I", "-S", "-c", look, str(tmp_path / "usr/lib/ropeway")]
    assert process.run(argv).stdout == "True False\n"


def test_it_names_the_licence_of_pyroute2(package: Path, tmp_path: Path) -> None:
    deb.extract(package, tmp_path)
    text = (tmp_path / "usr/share/doc/ropeway/copyright").read_text()
    paragraph = text.partition("Files: vendored/pyroute2/*\n")[2].partition("\n\n")[0]
    assert "License: GPL-2+ or Apache-2.0" in paragraph
    assert "\nLicense: GPL-2+\n" in text
    assert "\nLicense: Apache-2.0\n" in text


def test_it_leaves_its_directory_in_etc_to_its_owner(package: Path) -> None:
    contents = deb.contents(package)
    assert "/etc/ropeway" in contents
    assert not [path for path in contents if path.startswith("/etc/ropeway/")]
    conffiles = process.run(["dpkg-deb", "--info", str(package), "conffiles"]).stdout.split()
    assert conffiles == ["/etc/needrestart/conf.d/ropeway.conf"]


def test_udev_reads_its_rule(package: Path) -> None:
    contents = deb.contents(package)
    # Below /usr or not as debhelper has it; udevd reads both everywhere.
    (rule,) = [path for path in contents if path.endswith("/lib/udev/rules.d/60-ropeway.rules")]
    assert contents[rule].startswith("-rw-r--r-- root/root")


def test_nothing_strays_into_it(package: Path) -> None:
    private = [path for path in deb.contents(package) if path.startswith("/usr/lib/ropeway/")]
    assert not [path for path in private if "__pycache__" in path or path.endswith(".pyc")]
    page = "/usr/lib/ropeway/ropeway/app/monitor/"
    files = {Path(path).suffix for path in private if not path.startswith(page)}
    assert files - {""} == {".py", ".json"}
    files = {Path(path).suffix for path in private if path.startswith(page)}
    assert files - {""} == {".py", ".html", ".css", ".js", ".svg"}


def test_everything_in_it_belongs_to_root(package: Path) -> None:
    assert {entry.split()[1] for entry in deb.contents(package).values()} == {"root/root"}


def test_the_units_differ_only_in_their_names() -> None:
    units = deb.CHECKOUT / "agent/debian"
    template = (units / "ropeway@.service").read_text()
    for one, other in (
        ("agent of the network %i", "agent"),
        ("/etc/ropeway/%i.yaml", "/etc/ropeway/ropeway.yaml"),
        ("agent --config /etc/ropeway/ropeway.yaml", "agent"),
        ("cleanup --config /etc/ropeway/ropeway.yaml", "cleanup"),
        ("# A stop removes it with all that is in it, so each network has one of its own.\n", ""),
        ("RuntimeDirectory=ropeway-%i", "RuntimeDirectory=ropeway"),
        ("/run/ropeway-%i/control.sock", "/run/ropeway/control.sock"),
    ):
        assert template.count(one) > 0, one
        template = template.replace(one, other)
    assert template == (units / "ropeway.service").read_text()
