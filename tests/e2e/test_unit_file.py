"""The systemd unit in the documents: what it takes from a server is nothing that a server needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.ground import MIB
from tests.support.processes import Mounted, make_repository, must, must_json, run

UNIT = Path(__file__).parents[2] / "docs/systemd/vsnapfs@.service"
HIDING = (
    *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectProc", "MountFlags"),
    *("ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectHostname"),
    *("ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "NoExecPaths", "BindPaths", "TemporaryFileSystem"),
    *("RootDirectory", "RootImage", "MountImages", "PrivateIPC", "DynamicUser", "ProcSubset", "StateDirectory"),
)
"""Settings that give a service a mount namespace, in which nobody else sees what it mounts."""

NOBODY = 65534
DENY_NEW_CODE = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

pytestmark = [pytest.mark.e2e]


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_nothing_hides_the_mount() -> None:
    assert [key for key in settings() if key in HIDING] == []


def test_systemd_understands_it(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/vsnapfs", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.requires_root
@pytest.mark.requires_fuse
def test_a_server_needs_no_more_than_it_leaves(tmp_path: Path) -> None:
    """Capabilities, no new privileges, no memory that becomes code: primaries and images of others, a socket for a
    group, volumes read by the kernel."""
    repository = make_repository(tmp_path / "repository", thin="4M")
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"f" * MIB)
    foreign.chmod(0o600)
    os.chown(foreign, NOBODY, NOBODY)
    must(repository, "volume", "add", "foreign", "--primary", foreign)
    (tmp_path / "run").mkdir()
    socket = tmp_path / "run/s"
    (repository / "vsnapfs.toml").write_text(
        f'[mount]\ndata = "auto"\n[control]\nsocket = "{socket}"\nread = ["@{NOBODY}"]\n'
    )
    bounds = settings()["CapabilityBoundingSet"][0].lower().replace("cap_", "+").replace(" ", ",")
    within = ("setpriv", f"--bounding-set=-all,{bounds}", "--no-new-privs", sys.executable, "-c", DENY_NEW_CODE)
    with Mounted(repository, tmp_path / "mount", within=within) as server:
        for volume in ("thin", "foreign"):
            with (server.mountpoint / "live" / volume).open("r+b") as live:
                live.write(b"w" * 4096)
                os.fsync(live.fileno())
        must(repository, "bookmark", "add", "a")
        assert must_json(repository, "status")["protected"]
        assert (server.mountpoint / "snaps/a/foreign").read_bytes() == b"w" * 4096 + b"f" * (MIB - 4096)
        assert socket.stat().st_gid == NOBODY
        assert run(None, "--socket", socket, "import", f"x={foreign}", "--bookmark", "b").returncode == 0
    assert foreign.read_bytes()[:4096] == b"w" * 4096
