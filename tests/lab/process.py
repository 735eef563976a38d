"""Starting the platform's own programs, and finding the processes that the lab started."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, List, Mapping, Optional, Sequence, TypeVar

from . import progress
from .errors import LabError

HEARTBEAT_S = 5.0
POLL_S = 0.05

T = TypeVar("T")


def run(
    argv: Sequence[str],
    *,
    timeout_s: float = 60.0,
    check: bool = True,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[Path] = None,
    text_in: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed.

    Raises LabError when the program is missing, takes longer than `timeout_s`, or (with `check`)
    exits with anything but 0.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=text_in,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=None if env is None else dict(env),
            cwd=cwd,
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed on this machine: install it first.") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{shlex.join(argv)} did not end within {timeout_s:.0f} s.") from None
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{shlex.join(argv)} exited with {done.returncode}: {said}")
    return done


def run_visibly(
    argv: Sequence[str],
    *,
    what: str,
    timeout_s: float,
    env: Optional[Mapping[str, str]] = None,
) -> None:
    """Run a long program; every few seconds print how long it has taken and its latest line.

    Raises LabError with the end of its output when it fails or takes longer than `timeout_s`.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
        )
        try:
            while True:
                try:
                    child.wait(HEARTBEAT_S)
                    break
                except subprocess.TimeoutExpired:
                    elapsed_s = time.monotonic() - started
                    progress.say(f"{what}: {elapsed_s:.0f} s, {_last_line(output.fileno())}")
                    if elapsed_s > timeout_s:
                        raise LabError(f"{what} did not end within {timeout_s:.0f} s.") from None
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
        if child.returncode != 0:
            raise LabError(
                f"{what} failed ({shlex.join(argv)} exited with {child.returncode}):\n"
                + _tail(output.fileno(), 3000)
            )


def _tail(descriptor: int, size: int) -> str:
    length = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, max(0, length - size)).decode("utf-8", "replace").strip()


def _last_line(descriptor: int) -> str:
    lines = _tail(descriptor, 500).replace("\r", "\n").splitlines()
    return lines[-1][-90:] if lines else ""


def require(*programs: str) -> None:
    """Raise LabError naming every one of `programs` that is not on the PATH."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise LabError(
            f"Not installed on this machine: {', '.join(missing)}. `make lab` installs it."
        )


def wait_for(
    condition: Callable[[], Optional[T]], *, what: str, timeout_s: float, poll_s: float = POLL_S
) -> T:
    """Poll `condition` until it returns something true and return that.

    Raises LabError saying that `what` did not happen within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not within {timeout_s:.0f} s.")
        time.sleep(poll_s)


def unchanged(look: Callable[[], object], *, for_s: float, looks: int) -> Callable[[], bool]:
    """A condition: what `look` gives has stayed the same for so long, and so many times.

    The times count because nothing changes either while the whole machine stands still.
    """
    seen: object = None
    since_s, same = time.monotonic(), 0

    def condition() -> bool:
        nonlocal seen, since_s, same
        now_s = time.monotonic()
        found = look()
        same += 1
        if found != seen:
            seen, since_s, same = found, now_s, 0
        return now_s - since_s >= for_s and same >= looks

    return condition


def arguments_of(pid: int) -> List[str]:
    """The command line of process `pid`; empty if it is gone or a kernel thread."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return raw.decode("utf-8", "surrogateescape").split("\0")[:-1]


def processes() -> Iterator[int]:
    """Every process id that this process can see."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def own_mark() -> str:
    """This process, as PID.START: another one that gets the same number later has another mark."""
    return f"{os.getpid()}.{_started(os.getpid())}"


def lives(mark: str) -> bool:
    """Whether the process that a mark (`own_mark`) names still runs; False for anything else."""
    pid, _, started = mark.partition(".")
    return pid.isdigit() and started.isdigit() and _started(int(pid)) == int(started)


def _started(pid: int) -> Optional[int]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Field 22 of proc_pid_stat(5); the name before the last ")" may hold anything.
    return int(stat.rpartition(")")[2].split()[19])


def children_of(pid: int) -> List[int]:
    """The direct children of process `pid`; empty if it is gone."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [
            int(child)
            for task in tasks
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def end(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process; no error if it is already gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
