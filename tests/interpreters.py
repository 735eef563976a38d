"""`python3 -m tests.interpreters [--ends|--in-turn] [PYTEST ARGUMENT...]`: unit tests by Python.

Looks for Python 3.8 to 3.14 on the PATH and under pyenv, gives each an environment of its own in
build/ with the ``cryptography`` of the release that ships this Python, and runs two at a time.
Arguments replace tests/unit if one of them is a path. Says which versions are not there; fails if
none is. --ends takes the oldest and the newest of them, --in-turn one of the others, another one
each day.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Dict, List, Optional, Tuple

CHECKOUT = Path(__file__).resolve().parents[1]
REQUIREMENTS = CHECKOUT / ".config" / "requirements" / "unit.txt"
RELEASES = REQUIREMENTS.with_name("unit-releases.txt")
VENDORED = REQUIREMENTS.with_name("vendored.txt")
MINORS = range(8, 15)
AT_ONCE = 2


def interpreters() -> Dict[str, Path]:
    """Give version -> interpreter, one of each minor version that is found."""
    found: Dict[str, Path] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in MINORS:
        version = f"3.{minor}"
        candidates = sorted(pyenv.glob(f"{version}.*/bin/python3"))
        on_path = shutil.which(f"python{version}")
        if on_path:
            candidates.append(Path(on_path))
        for candidate in candidates:
            if _runs(candidate, version):
                found[version] = candidate
                break
    return found


def _runs(interpreter: Path, version: str) -> bool:
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def environment(version: str, interpreter: Path) -> Path:
    """Give the Python of an environment with what the unit tests need, made if it is not there."""
    home = CHECKOUT / "build" / f"venv-{version}"
    stamp = home / "ready"
    contents = b"".join(file.read_bytes() for file in (REQUIREMENTS, RELEASES, VENDORED))
    wanted = hashlib.sha256(contents + str(interpreter).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", home], check=True)
        pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet"]
        # Hashes of some make pip ask for those of all, so they go apart.
        for files in (["-r", REQUIREMENTS, "-c", RELEASES], ["--no-deps", "-r", VENDORED]):
            subprocess.run([*pip, *files], check=True, stdout=subprocess.DEVNULL)
        stamp.write_text(wanted)
    return home / "bin" / "python"


def run(version: str, interpreter: Path, arguments: List[str]) -> Tuple[int, str, float]:
    """Run the unit tests; give the exit code, what pytest printed, and how long it took in s."""
    started_at = time.monotonic()
    python = environment(version, interpreter)
    if not any(Path(CHECKOUT, a.partition("::")[0]).exists() for a in arguments):
        arguments = ["tests/unit", *arguments]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout, time.monotonic() - started_at


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def main(arguments: Optional[List[str]] = None) -> int:
    """Run all; 0 if every interpreter passed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    found = interpreters()
    if not found:
        print("No Python 3.8 to 3.14 was found on the PATH or under pyenv.", file=sys.stderr)
        return 1
    absent = [f"3.{minor}" for minor in MINORS if f"3.{minor}" not in found]
    if absent:
        print(f"not here, or without its venv module: Python {', '.join(absent)}", flush=True)
    ends = (min(found, key=_minor), max(found, key=_minor))
    if "--ends" in arguments:
        found = {version: path for version, path in found.items() if version in ends}
    elif "--in-turn" in arguments:
        between = sorted(found.keys() - set(ends), key=_minor)
        chosen = between[date.today().toordinal() % len(between)] if between else None
        found = {version: path for version, path in found.items() if version == chosen}
    arguments = [argument for argument in arguments if argument not in ("--ends", "--in-turn")]
    print(f"unit tests on Python {', '.join(found) or '- none between'}", flush=True)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {pool.submit(run, v, path, arguments): v for v, path in found.items()}
        for finished in concurrent.futures.as_completed(runs):
            code, output, seconds = finished.result()
            version = runs[finished]
            last = output.strip().splitlines()[-1] if output.strip() else "no output"
            print(f"Python {version}: {last} ({seconds:.0f} s with the environment)", flush=True)
            if code:
                failed.append(version)
                print(output, flush=True)
    if failed:
        print(f"failed on Python {', '.join(sorted(failed))}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
