"""The kernel's own tape driver and the real mtx, in a virtual machine, over a drive and a robot that tgt emulates: no hardware is needed.

  python -m tests.applications.tape_guest [--keep]

The machine has this one's filesystem, read-only, and no network but the two emulated SCSI devices. In it the suite of tapes
(tests/unit/media/test_tapes_alike.py) is run on ``/dev/nst0``; then a repository is archived to tapes that the robot changes: killed in
the middle and resumed, read back, recalled and compared. It takes a minute or two, since the machine's processor is emulated, and is not
part of the tests that run each time.

Debian's tgt, mtx, mt-st, qemu-system-x86, qemu-block-extra, kmod and cpio have to be installed; a kernel is downloaded.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import eventually
from vsnapfs.repository.repository import Repository
from vsnapfs.repository.tapes import shelf

TOP = Path(__file__).parents[2]
PROGRAMS = ("tgtd", "tgtadm", "tgtimg", "mtx", "mt", "qemu-system-x86_64", "depmod", "cpio", "apt-get", "dpkg-deb")
MODULES = ("virtio_pci", "virtio_scsi", "st", "sg", "9pnet_virtio", "9p")
PORT = 3261
TARGET = "iqn.2026-11.org.vsnapfs:tapes"
CARTRIDGES = ("A00001", "A00002", "A00003")
CARTRIDGE_MIB = 24
VOLUME_MIB = 34
PIECES_UNTIL_KILLED = 3
GUEST_S = 1500
DONE = "ALL-IS-WELL"

INIT = """#!/bin/sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev; $B mount -t proc proc /proc; $B mount -t sysfs sys /sys
for module in /modules/*.ko; do $B insmod $module; done
$B sleep 1
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host
$B mount -t devtmpfs dev /host/dev; $B mount -t proc proc /host/proc; $B mount -t sysfs sys /host/sys
$B mount -t tmpfs tmp /host/mnt
$B chroot /host /bin/sh {script}
$B poweroff -f
"""
SCRIPT = """
export HOME=/mnt TMPDIR=/mnt PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={top} VSNAPFS_REPO=/mnt/repository PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
cd {top} && mtx -f /dev/sg1 load 1 0 && mt -f /dev/nst0 status &&
VSNAPFS_TAPE_DEVICE=/dev/nst0 {python} -m pytest -q -c /dev/null --rootdir={top} --noconftest -p no:cacheprovider \\
  --basetemp=/mnt/t tests/unit/media/test_tapes_alike.py -k kernel &&
mt -f /dev/nst0 offline && mtx -f /dev/sg1 unload 1 0 &&
cp -r {work}/repository /mnt/ && {python} -m tests.applications.tape_guest --inside {work} && echo {done}
"""
SETTINGS = """
[media.lto]
kind = "drive"
device = "/dev/nst0"
changer = "mtx"
changer_device = "/dev/sg1"
block = "64K"
piece = "4M"
ready = "1min"
"""


def missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def unpacked_kernel(work: Path) -> Path:
    """Debian's kernel and a static busybox, below a directory."""
    depends = run("apt-cache", "depends", "linux-image-amd64")
    image = next(word for word in depends.split() if word.startswith("linux-image-"))
    if image == "linux-image-amd64":
        image = depends.split()[depends.split().index("Depends:") + 1]
    run("apt-get", "download", "-q", image, "busybox-static", cwd=work)
    root = work / "root"
    for package in work.glob("*.deb"):
        run("dpkg-deb", "-x", package, root)
    version = next((root / "lib/modules").iterdir()).name
    run("depmod", "-b", root, version)
    return root


def modules_of(root: Path) -> list[Path]:
    """Those of MODULES and what they need, in the order in which they are loaded; what is built in is not among them."""
    place = next((root / "lib/modules").iterdir())
    needs = {}
    for line in (place / "modules.dep").read_text().splitlines():
        name, _, others = line.partition(":")
        needs[name] = others.split()
    by_stem = {Path(name).stem.replace("-", "_"): name for name in needs}
    order: list[str] = []

    def add(name: str) -> None:
        for other in reversed(needs[name]):
            add(other)
        if name not in order:
            order.append(name)

    for stem in MODULES:
        if stem in by_stem:
            add(by_stem[stem])
    return [place / name for name in order]


def make_initrd(root: Path, work: Path, script: Path) -> Path:
    tree = work / "initrd"
    for directory in ("bin", "modules", "dev", "proc", "sys", "host"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    for number, module in enumerate(modules_of(root)):
        shutil.copy(module, tree / f"modules/{number:02}-{module.name}")
    (tree / "init").write_text(INIT.format(script=script))
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in [tree, *sorted(tree.rglob("*"))])
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    target = work / "initrd.gz"
    target.write_bytes(gzip.compress(packed.stdout, 1))
    return target


@contextmanager
def robot(work: Path) -> Iterator[None]:
    """A drive and a changer of three cartridges, at a port of this machine alone."""
    env = os.environ | {"TGT_IPC_SOCKET": str(work / "tgt")}
    media = work / "media"
    media.mkdir()
    for barcode in (*CARTRIDGES, "EMPTY"):
        kind = ("--device-type", "tape", "--type", "data", "--size", str(CARTRIDGE_MIB))
        run("tgtimg", "--op", "new", *kind, "--barcode", barcode, "--file", media / barcode)
    (media / "changer").write_bytes(bytes(1 << 20))
    command = ["tgtd", "-f", "--iscsi", f"portal=127.0.0.1:{PORT}"]
    daemon = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def tell(op: str, mode: str, *words: str) -> None:
        run("tgtadm", "--lld", "iscsi", "--op", op, "--mode", mode, "--tid", "1", *words, env=env)

    def element(params: str) -> None:
        tell("update", "logicalunit", "--lun", "2", "--params", params)

    try:
        time.sleep(1)
        tell("new", "target", "-T", TARGET)
        tell("new", "logicalunit", "--lun", "1", "-b", str(media / "EMPTY"), "--device-type", "tape")
        tell("update", "logicalunit", "--lun", "1", "--params", "removable=1,online=0")
        tell("new", "logicalunit", "--lun", "2", "-b", str(media / "changer"), "--device-type", "changer")
        element(f"media_home={media}")
        for element_type, start, count in ((1, 1, 1), (2, 1000, 4), (4, 500, 1)):
            element(f"element_type={element_type},start_address={start},quantity={count}")
        element("element_type=4,address=500,tid=1,lun=1")
        for number, barcode in enumerate(CARTRIDGES):
            element(f"element_type=2,address={1000 + number},barcode={barcode},sides=1")
        tell("bind", "target", "-I", "127.0.0.1")
        yield
    finally:
        daemon.kill()
        daemon.wait()


def make_repository(path: Path) -> None:
    chance = random.Random(5)
    Repository.create(path)
    with (path / "vsnapfs.toml").open("a") as settings:
        settings.write(SETTINGS)
    with Repository.open(path, owner=True) as repository:
        volume = repository.volume_add("db0", size_bytes=VOLUME_MIB << 20)
        for at in range(VOLUME_MIB):
            repository.journal.write(volume.id, at << 20, chance.randbytes(1 << 20))
        repository.bookmark_add("a")
        for at in (0, 5, 20):
            repository.journal.write(volume.id, at << 20, chance.randbytes(1 << 19))
        repository.bookmark_add("b")


def boot(root: Path, initrd: Path) -> bool:
    """What the machine says is shown. Returns: whether all that was done in it went well."""
    unit = f"iscsi://127.0.0.1:{PORT}/{TARGET}"
    kernel = next((root / "boot").glob("vmlinuz-*"))
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "900",
        "-nographic",
        "-no-reboot",
        "-nodefaults",
    ]
    command += ["-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd)]
    command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off", "-device", "virtio-scsi-pci,id=scsi"]
    for lun in (1, 2):
        command += [
            "-drive",
            f"if=none,id=lun{lun},format=raw,file={unit}/{lun}",
            "-device",
            f"scsi-generic,drive=lun{lun},bus=scsi.0",
        ]
    command += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
    command += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
    said = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as machine:
        assert machine.stdout is not None
        end = time.monotonic() + GUEST_S
        for line in machine.stdout:
            print(line, end="", flush=True)
            said.append(line.strip())
            if time.monotonic() > end:
                machine.kill()
    return DONE in said


def kill_an_archive(repository: Path) -> int:
    """Begin one, and kill it in the middle of a piece: the kernel ends that with a mark. Returns: how many pieces count."""

    def pieces() -> int:
        with shelf(repository) as found:
            return sum(archive.pieces for archive in found.tapes.archives())

    command = [sys.executable, "-m", "vsnapfs.cli", "archive", "a", "--to", "lto"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as archive:
        eventually(lambda: pieces() >= PIECES_UNTIL_KILLED, "pieces on tape", deadline_s=GUEST_S / 3)
        archive.kill()
    return pieces()


def inside(work: Path) -> int:
    """In the machine: over the tapes of the robot and back. Returns: 0 if it all went well."""
    from vsnapfs.cli.main import run as vsnapfs

    def expect(status: int, *words: str) -> None:
        began = time.monotonic()
        found = vsnapfs(words)
        print(f"{' '.join(words)}: {found} after {time.monotonic() - began:.1f} s", flush=True)
        if found != status:
            raise SystemExit(f"that should have been {status}")

    print(f"killed with {kill_an_archive(Path(os.environ['VSNAPFS_REPO']))} pieces on tape", flush=True)
    expect(0, "archive", "a", "--to", "lto", "--resume", "--verify")
    expect(0, "archive", "b", "--to", "lto", "--incremental", "--verify")
    expect(0, "tape", "list", "--look")
    expect(0, "archive", "list")
    expect(0, "recall", "b", "--to", "/mnt/out")
    with (
        Repository.open(work / "repository", owner=False) as repository,
        repository.view("db0", repository.resolve("b")) as view,
    ):
        recalled = next(Path("/mnt/out").rglob("db0")).read_bytes()
        print("recalled and", "equal" if recalled == view.read(0, view.size_bytes) else "DIFFERENT", flush=True)
        return 0 if recalled == view.read(0, view.size_bytes) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the directory that all was made in")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside is not None:
        return inside(chosen.inside)
    if missing():
        print(f"install what has {', '.join(missing())}: see the head of {__file__}", file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="vsnapfs-tape-guest-"))
    try:
        script = work / "inside.sh"
        script.write_text(SCRIPT.format(top=TOP, python=sys.executable, work=work, done=DONE))
        root = unpacked_kernel(work)
        make_repository(work / "repository")
        with robot(work):
            return 0 if boot(root, make_initrd(root, work, script)) else 1
    finally:
        if not chosen.keep:
            shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
