"""The unit as a real systemd runs it, the first process of namespaces of its own."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.series.times import format_time
from tests.paths import ROOT
from tests.waiting import LONG_S, wait_for

UNIT = ROOT / "deploy" / "stunet.service"
START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
NAMESPACES = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
INTERPRETER = f"""#!/bin/sh
export LD_LIBRARY_PATH=/opt/stunet/python/lib PYTHONPATH=/opt/stunet/checkout:/opt/stunet/packages
exec /opt/stunet/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} "$@"
"""
CONFIG = """
[http]
port = 8080

[[stream]]
name = "ring"
bundle = "/var/lib/stunet/model.bundle"
state = "/var/lib/stunet/ring"

[stream.source]
kind = "replay"
path = "/var/lib/stunet/recording.csv"
speed = 3000    # an interval in a tenth of a second

[[stream.sink]]
kind = "csv"
folder = "/var/lib/stunet/forecasts"
"""
#: What a service may want to do; it writes down what each attempt is refused with, null where it is not.
PROBE = """
import ctypes, json, mmap, os, socket
from pathlib import Path

def unshare():
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "")

def set_user_id():
    program = Path("/var/lib/stunet/program")
    program.touch()
    program.chmod(0o4755)

wishes = {f"write {folder}": lambda folder=folder: Path(folder, "x").touch() for folder in FOLDERS}
wishes |= {
    f"socket {family}": lambda family=family: socket.socket(getattr(socket, family), socket.SOCK_DGRAM).close()
    for family in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET")
}
wishes |= {
    "set-user-ID": set_user_id,
    "change owner": lambda: os.chown("/var/lib/stunet", 990, 990),
    "new user namespace": unshare,
    "write what is executed": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "see other processes": lambda: Path("/proc/1/status").read_text(),
    "see the temporary files of others": lambda: Path("/tmp/others").read_text(),
}
found = {}
for wish, grant in wishes.items():
    try:
        grant()
        found[wish] = None
    except OSError as error:
        found[wish] = os.strerror(error.errno)
status = dict(line.split(":\\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
found |= {name: status[name].strip() for name in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp")}
Path("/var/lib/stunet/found.json").write_text(json.dumps(found))
"""

pytestmark = [pytest.mark.slow, pytest.mark.needs_system_package("systemd-analyze")]


class Machine:
    """A booted systemd: the process id of its first process, and its files."""

    def __init__(self, pid):
        self.files = Path(f"/proc/{pid}/root")
        self._enter = ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C"]

    def run(self, *command, check=True):
        """Run a command in it and return what that prints."""
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, timeout=LONG_S)
        if check:
            assert done.returncode == 0, done.stderr + self.journal()
        return done.stdout.strip()

    def show(self, name):
        """Return a property of the service."""
        return self.run("systemctl", "show", "stunet", "-P", name)

    def entries(self, process=None):
        """Return what the service has written into the journal, or one process of it, as dictionaries."""
        of = [] if process is None else [f"_PID={process}"]
        return [json.loads(line) for line in self.run("journalctl", "-t", "stunet", "-o", "json", *of).splitlines()]

    def wait_for_word(self, text):
        """Wait until the service's process of now has written something."""
        process = self.show("MainPID")
        wait_for(lambda: any(text in entry["MESSAGE"] for entry in self.entries(process)), lambda: text)

    def journal(self):
        """Return the journal as a person reads it."""
        return self.run("journalctl", "--no-pager", check=False)


@pytest.fixture
def machine(tmp_path):
    """Boot, with this Python and this checkout as /opt/stunet; nothing of it is left afterwards."""
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"] or os.geteuid():
        pytest.skip("only the root of a machine may boot a systemd")
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    hierarchy = next((Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"), None)
    if hierarchy is None:
        pytest.skip("no cgroup2 is mounted")
    probe = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no namespaces: {probe.stderr.strip()}")
    group = hierarchy / f"stunet-test-{os.getpid()}"
    try:
        group.mkdir(exist_ok=True)
    except OSError as error:
        pytest.skip(f"no control group: {error}")

    shown = [sys.base_prefix, "opt/stunet/python", sysconfig.get_path("purelib"), "opt/stunet/packages"]
    shown += [ROOT, "opt/stunet/checkout"]
    # It dies with the test, however that ends.
    into_group = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec setpriv --pdeathsig KILL "$@"', "sh"]
    with (tmp_path / "boot.log").open("w") as log:
        (tmp_path / "machine").mkdir()
        process = subprocess.Popen(
            [*into_group, *NAMESPACES, "sh", Path(__file__).with_name("boot.sh"), tmp_path / "machine", *shown],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield boot(process, tmp_path / "boot.log")
    finally:
        process.kill()
        process.wait()
        wait_for(lambda: "populated 0" in (group / "cgroup.events").read_text(), "the end of all its processes")
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()


def boot(process, log):
    """Wait for a machine that is up, and put the command of the service there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    machine = None

    def is_up():
        nonlocal machine
        if process.poll() is not None:
            pytest.fail(f"systemd has ended: {log.read_text()}")
        machine = machine or next((Machine(pid) for pid in children.read_text().split()), None)
        return machine is not None and machine.run("systemctl", "is-system-running", check=False) == "running"

    wait_for(is_up, f"a running system {log.read_text()}")
    commands = machine.files / "opt/stunet/bin"
    commands.mkdir()
    (commands / "python").write_text(INTERPRETER)
    (commands / "stunet").write_text('#!/bin/sh\nexec /opt/stunet/bin/python -m stunet_deploy "$@"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    return machine


@pytest.fixture
def controller(machine, build_example):
    """Return a machine on which everything has been done that docs/guide/operations.md says, up to systemctl."""
    files, state = machine.files, machine.files / "var/lib/stunet"
    for name, taps in (("model.bundle", ((1,),)), ("new.bundle", ((2, 1), (3,)))):
        shutil.copytree(build_example(*taps).bundle.path, state / name)
    rng = np.random.default_rng(0)
    rows = ["timestamp,sensor_id,speed,trend"]
    for t, speeds in enumerate(rng.uniform(20, 60, (3000, 5)).round(2).tolist()):
        rows += [f"{format_time(START_S + 300 * t)},s{node},{speed},0" for node, speed in enumerate(speeds)]
    (state / "recording.csv").write_text("\n".join(rows) + "\n")
    (files / "etc/stunet").mkdir()
    (files / "etc/stunet/service.toml").write_text(CONFIG)
    machine.run("chown", "-R", "stunet:stunet", "/var/lib/stunet")
    shutil.copy(UNIT, files / "etc/systemd/system")
    return machine


def test_the_unit_does_under_systemd_what_it_says(controller):
    # All as it is shipped, only that nobody waits here for minutes.
    hasty = controller.files / "etc/systemd/system/stunet.service.d/hasty.conf"
    hasty.parent.mkdir()
    hasty.write_text("[Service]\nWatchdogSec=12\nRestartSec=100ms\n")
    controller.run("systemctl", "daemon-reload")

    # systemctl comes back when READY=1 has come.
    controller.run("systemctl", "enable", "--now", "stunet")
    assert [controller.show(name) for name in ("Type", "ActiveState", "NRestarts")] == ["notify", "active", "0"]
    process = controller.show("MainPID")
    time.sleep(14)
    assert controller.show("MainPID") == process, controller.journal()

    for times, signal in enumerate(("STOP", "KILL"), 1):
        killed = controller.show("MainPID")
        controller.run("kill", f"-{signal}", killed)
        wait_for(
            lambda times=str(times): (
                [controller.show("NRestarts"), controller.show("ActiveState")] == [times, "active"]
            ),
            lambda signal=signal: f"a restart after {signal}",
        )
        controller.wait_for_word("going on after")
        if signal == "STOP":
            last_words = [entry["MESSAGE"] for entry in controller.entries(killed)]
            assert "Fatal Python error: Aborted" in last_words
            assert any("in _watch" in line for line in last_words)  # where the main thread was

    process = controller.show("MainPID")
    config = controller.files / "etc/stunet/service.toml"
    config.write_text(CONFIG.replace("model.bundle", "absent.bundle"))
    controller.run("systemctl", "reload", "stunet")
    controller.wait_for_word("the new bundle is not taken")
    config.write_text(CONFIG.replace("model.bundle", "new.bundle"))
    controller.run("systemctl", "reload", "stunet")
    controller.wait_for_word("goes on with bundle")
    assert controller.show("MainPID") == process

    controller.run("systemctl", "restart", "stunet")
    controller.wait_for_word("going on after")
    controller.run("systemctl", "stop", "stunet")
    ended = {"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}
    assert {name: controller.show(name) for name in ended} == ended, controller.journal()

    issued = set()
    for path in (controller.files / "var/lib/stunet/forecasts").iterdir():
        rows = csv.DictReader(path.read_text().splitlines())
        stamps = [row["issued_at"] for row in rows if row["horizon_min"] == "5"]
        assert len(set(stamps)) == len(stamps)
        issued |= set(stamps)
    assert len(issued) > 50
    assert sorted(issued) == [format_time(START_S + 300 * t) for t in range(len(issued))]

    own = re.compile(r"(.*)\b(INFO|WARNING|ERROR) (?:ring|service): ")
    found = [(own.match(entry["MESSAGE"]), entry["PRIORITY"]) for entry in controller.entries()]
    lines = {(*line.groups(), priority) for line, priority in found if line}
    assert (
        {("", "INFO", "6"), ("", "ERROR", "3")}
        <= lines
        <= {("", "INFO", "6"), ("", "WARNING", "4"), ("", "ERROR", "3")}
    )


def test_what_the_unit_forbids_is_refused(controller):
    own = ["/var/lib/stunet", "/tmp", "/var/tmp"]
    others = ["/etc/stunet", "/opt/stunet", "/srv", "/run", "/run/lock", "/var/lib"]
    hidden = ["/home", "/root"]
    controller.run("mkdir", "-p", "/run/lock")
    controller.run("chmod", "1777", *others, *hidden)  # so that nothing but the unit refuses
    (controller.files / "tmp/others").write_text("secret")
    (controller.files / "opt/stunet/probe.py").write_text(f"FOLDERS = {[*own, *others, *hidden]}{PROBE}")
    unit = UNIT.read_text().replace("Type=notify", "Type=oneshot").replace("RestartForceExitStatus=", "#")
    unit = unit.replace("stunet run --config /etc/stunet/service.toml", "python /opt/stunet/probe.py")
    (controller.files / "etc/systemd/system/probe.service").write_text(unit)

    controller.run("systemctl", "daemon-reload")
    controller.run("systemctl", "start", "probe")

    found = json.loads((controller.files / "var/lib/stunet/found.json").read_text())
    granted = {f"write {folder}" for folder in own} | {"socket AF_UNIX", "socket AF_INET", "socket AF_INET6"}
    assert {wish for wish, refusal in found.items() if refusal is None} == granted
    assert {found[f"write {folder}"] for folder in others} == {"Read-only file system"}
    assert found["CapBnd"] == found["CapEff"] == "0000000000000000"
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
