from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys

import pytest

from ropeway.kernel import process

DUMPS = """
import ctypes, json
from ropeway.kernel import process
PR_GET_DUMPABLE = 3
before = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE)
process.forbid_dumps()
print(json.dumps([before, ctypes.CDLL(None).prctl(PR_GET_DUMPABLE)]))
"""

# The child says how it is scheduled, by the file that shows it.
PROMPTLY = """
import json, os, resource
from ropeway.kernel import process
def seen():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    slices = [float(line.split()[-1]) for line in open("/proc/self/sched") if "se.slice" in line]
    return {
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "locked_kib": int(status["VmLck"].split()[0]),
        "resident_kib": int(status["VmRSS"].split()[0]),
        "slice_us": slices[0] / 1000 if slices else None,
    }
try:
    os.setpriority(os.PRIO_PROCESS, 0, {nice})
except PermissionError:
    pass
if {unlimited}:
    resource.getrlimit = lambda what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
before = seen()
granted = process.serve_promptly()
after = seen()
try:
    # Empty for what descends from no session at all, as in a machine without a login.
    autogroup = int((open("/proc/self/autogroup").read().split() or [0])[-1])
except FileNotFoundError:
    autogroup = None
receiver, sender = os.pipe()
if os.fork() == 0:
    os.write(sender, json.dumps(seen()).encode())
    os._exit(0)
child = json.loads(os.read(receiver, 4096).decode())
os.wait()
memory = bytearray(1 << 22)  # more of it than there was still can be had
process.forbid_dumps()
print(json.dumps([granted, before, after, autogroup, child]))
"""


def run(script, **options):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
        **options,
    )
    return json.loads(done.stdout.decode())


def promptly(nice=0, unlimited=False, own_session=True):
    script = PROMPTLY.replace("{nice}", str(nice)).replace("{unlimited}", str(unlimited))
    return run(script, start_new_session=own_session)


def test_memory_is_not_dumped_any_more():
    assert run(DUMPS) == [1, 0]


@pytest.mark.parametrize("nice", [-10, 5])
def test_what_the_kernel_grants_is_said_and_so(nice):
    granted, before, after, autogroup, _ = promptly(nice)
    assert list(granted) == ["nice", "autogroup", "slice_us", "memory_lock"]
    assert granted["nice"] == before["nice"] == after["nice"]
    if autogroup is None:
        assert granted["autogroup"] == "not in this kernel"
    else:
        assert granted["autogroup"] == autogroup == granted["nice"]
    if granted["slice_us"] == process.SLICE_US:
        assert after["slice_us"] in (process.SLICE_US, None)
    else:
        assert granted["slice_us"] == "not before Linux 6.12"
    assert (granted["memory_lock"] == "on") is (after["locked_kib"] > 0)


@pytest.mark.parametrize("nice", [-10, 5])
def test_children_are_ordinary(nice):
    granted, before, _, _, child = promptly(nice)
    assert child["nice"] == max(granted["nice"], 0)
    assert child["slice_us"] == before["slice_us"]
    assert child["locked_kib"] == 0


def test_locking_reads_nothing_in():
    granted, before, after, _, _ = promptly(unlimited=True)
    if granted["memory_lock"] == "on":
        assert after["locked_kib"] > before["resident_kib"]
        assert after["resident_kib"] - before["resident_kib"] < 1024
    else:  # somebody who may not
        assert granted["memory_lock"] in {os.strerror(errno.ENOMEM), os.strerror(errno.EPERM)}
        assert after["locked_kib"] == 0


def test_memory_is_not_locked_up_to_a_limit_that_growth_would_hit(monkeypatch):
    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda what: (65536, 65536))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert process._lock_memory() == "no more than 64 KiB may be locked"


def test_the_session_of_others_is_left_alone():
    granted, _, _, autogroup, _ = promptly(5, own_session=False)
    assert granted["autogroup"] == "the session is not its own"
    assert autogroup != 5


@pytest.fixture
def autogroup(monkeypatch, tmp_path):
    """A file for the autogroup, in a session of one's own, and the pauses made on the way."""
    pauses = []
    path = tmp_path / "autogroup"
    path.write_bytes(b"")
    monkeypatch.setattr(os, "getsid", lambda pid: os.getpid())
    monkeypatch.setattr(process, "AUTOGROUP_PATH", str(path))
    monkeypatch.setattr(process.time, "sleep", pauses.append)
    return path, pauses


def test_a_kernel_without_autogroups(autogroup):
    path, _ = autogroup
    path.unlink()
    assert process._set_autogroup() == "not in this kernel"


@pytest.mark.parametrize("busy", [0, 1, 2, 3])
def test_another_change_of_a_session_is_waited_for(autogroup, monkeypatch, busy):
    path, pauses = autogroup
    answers = [BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))] * busy

    def opened(*arguments, **options):
        if answers:
            raise answers.pop()
        return open(*arguments, **options)

    monkeypatch.setattr(process, "open", opened, raising=False)
    if busy < 3:
        assert process._set_autogroup() == process._nice()
        assert path.read_bytes() == b"%d" % process._nice()
        assert len(pauses) == busy
    else:
        with pytest.raises(BlockingIOError):
            process._set_autogroup()
        assert len(pauses) == 2
    assert all(pause > 0.1 for pause in pauses)


def test_what_is_refused_is_said(monkeypatch):
    def refuse():
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    for name in ("_set_autogroup", "_set_slice", "_lock_memory"):
        monkeypatch.setattr(process, name, refuse)
    granted = process.serve_promptly()
    assert granted.pop("nice") == os.getpriority(os.PRIO_PROCESS, 0)
    assert set(granted.values()) == {"Operation not permitted"}


def test_a_machine_whose_numbers_are_not_known(monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "vax")))
    assert process._set_slice() == "not known for this machine"


def test_a_kernel_that_knows_no_slices(monkeypatch):
    calls = []
    monkeypatch.setattr(process.libc, "call", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "aarch64")))
    # The answer stays empty, as that of Linux 6.11 does.
    assert process._set_slice() == "not before Linux 6.12"
    (set_name, set_number, *_), (_, get_number, *_) = calls
    assert (set_name, set_number, get_number) in [("syscall", 274, 275), ("syscall", 380, 381)]


def test_a_refusal_of_the_kernel_is_an_os_error():
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        process.libc.call("mlockall", 0)


def test_name_of_the_process_is_shown_as_far_as_it_fits():
    script = (
        "import json; from ropeway.kernel import process;"
        " process.set_name('ropeway: a longer name');"
        " print(json.dumps(open('/proc/self/comm').read()))"
    )
    assert run(script) == "ropeway: a long\n"


def test_memory_is_returned_on_any_c_library(monkeypatch):
    process.return_memory()
    monkeypatch.setattr(process.libc, "has", lambda name: False)
    process.return_memory()


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, None),
        ({"run/systemd/container": "lxc\n"}, "lxc"),
        ({"run/host/container-manager": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"run/systemd/container": ""}, "other"),
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": 'engine="podman-4.3.1"\n'}, "podman"),
        ({".dockerenv": "", "run/systemd/container": "podman"}, "podman"),
    ],
)
def test_container_is_known_by_what_it_leaves(tmp_path, files, kind):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert process.container(str(tmp_path)) == kind
