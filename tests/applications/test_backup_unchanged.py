"""docs/backup-software.md: borg and restic on the newest point. The second time they read what changed, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.applications.protected import SIZE_BYTES, VOLUMES, Protected

pytestmark = [pytest.mark.e2e, pytest.mark.requires_root, pytest.mark.requires_fuse]

BORG = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}


def objects(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_borg(place: Protected) -> None:
    env = BORG | {"BORG_REPO": str(place.ground / "borg"), "BORG_BASE_DIR": str(place.ground / "borg-base")}
    create = ["borg", "create", "--log-json", "--list"]
    place.must("borg", "init", "--encryption=none", env=env)

    def save(point: str) -> dict[str, str]:
        said = place.at_point("latest", *create, f"::{point}", ".", env=env)
        return {o["path"]: o["status"] for o in objects(said) if o["type"] == "file_status" and o["status"] != "d"}

    first = place.bookmark("borg-0")
    with place.reading(first) as read:
        assert save(first) == dict.fromkeys(["MANIFEST.json", *VOLUMES], "A")
    assert read == [len(VOLUMES) * SIZE_BYTES]
    place.change("db1")
    second = place.bookmark("borg-1")
    with place.reading(second) as read:
        assert save(second) == {"MANIFEST.json": "A", "db0": "U", "db1": "M", "logs": "U"}
    assert read == [SIZE_BYTES]
    for point in (first, second):
        restored = place.ground / f"from-{point}"
        restored.mkdir()
        place.must("borg", "extract", f"::{point}", cwd=restored, env=env)
        place.dig_holes(restored)
        place.assert_restored(restored, point)


def test_restic(place: Protected) -> None:
    env = {"RESTIC_REPOSITORY": str(place.ground / "restic"), "RESTIC_PASSWORD": "x"}
    env["RESTIC_CACHE_DIR"] = str(place.ground / "restic-cache")
    place.must("restic", "init", env=env)

    def save() -> tuple[str, int, int, int]:
        said = objects(place.at_point("latest", "restic", "backup", "--json", ".", env=env))[-1]
        assert said["message_type"] == "summary"
        return said["snapshot_id"], said["files_new"], said["files_changed"], said["files_unmodified"]

    first = place.bookmark("restic-0")
    with place.reading(first) as read:
        saved = {first: save()}
    assert saved[first][1:] == (1 + len(VOLUMES), 0, 0)
    assert read == [len(VOLUMES) * SIZE_BYTES]
    place.change("logs")
    second = place.bookmark("restic-1")
    with place.reading(second) as read:
        saved[second] = save()
    assert saved[second][1:] == (0, 2, 2), "the manifest and one volume"
    assert read == [SIZE_BYTES]
    for point, (snapshot, *_) in saved.items():
        restored = place.ground / f"from-{point}"
        place.must("restic", "restore", snapshot, "--target", restored, env=env)
        place.dig_holes(restored)
        place.assert_restored(restored, point)


def test_a_link_is_all_that_they_take_of_a_link(place: Protected) -> None:
    """Also with a slash behind it, and with no word of warning: so ``latest`` is not what they are given."""
    place.bookmark("link")
    env = BORG | {"BORG_REPO": str(place.ground / "borg-link"), "BORG_BASE_DIR": str(place.ground / "borg-base")}
    place.must("borg", "init", "--encryption=none", env=env)
    said = place.must("borg", "create", "--log-json", "--list", "::link", f"{place.mountpoint}/snaps/latest/", env=env)
    assert [o["status"] for o in objects(said)] == ["s"]
    env = {"RESTIC_REPOSITORY": str(place.ground / "restic-link"), "RESTIC_PASSWORD": "x"}
    env["RESTIC_CACHE_DIR"] = str(place.ground / "restic-cache")
    place.must("restic", "init", env=env)
    said = place.must("restic", "backup", "--json", f"{place.mountpoint}/snaps/latest/", env=env)
    assert objects(said)[-1]["total_files_processed"] == 0
    assert objects(place.must("restic", "ls", "--json", "latest", env=env))[-1]["type"] == "symlink"
