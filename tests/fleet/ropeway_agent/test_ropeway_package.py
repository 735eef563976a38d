"""The package on the controller."""

from __future__ import annotations

from tests.fleet.conftest import load_filters

package = load_filters("ropeway_agent", "ropeway_package")


def test_newest_package() -> None:
    versions = ["0.9.0~rc1", "0.9.0", "0.9.0+b1", "0.10.0", "0.10.0-1", "1.0"]
    paths = [f"/d/ropeway_{version}_all.deb" for version in versions]
    for newest in range(1, len(paths)):
        assert package.newest_package(paths[newest::-1]) == paths[newest]
        assert package.newest_package(paths[: newest + 1]) == paths[newest]
    assert package.newest_package(["/d/other_2_all.deb", "/d/ropeway_2_amd64.deb"]) == ""
    assert package.package_version(paths[0]) == "0.9.0~rc1"
