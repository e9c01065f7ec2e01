"""What is told of branches: of those too that are damaged.

Source: docs/branches.md.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from vsnapfs.core.branch import Branch
from vsnapfs.core.errors import VsnapfsError
from vsnapfs.core.times import iso
from vsnapfs.repository.branch_files import BranchFile, Found
from vsnapfs.repository.branches import find, known, opened
from vsnapfs.repository.parts import Parts
from vsnapfs.repository.reading import MANIFEST_FORMAT


def listed(parts: Parts) -> list[Branch]:
    """All of them by name, those too that cannot be understood."""
    there = known(parts)
    found = [_described(parts, there, name) for name in sorted({*there.files, *there.broken})]
    left = known(parts)  # some may have been removed meanwhile
    return [branch for branch in found if branch.name in left.files or branch.name in left.broken]


def described(parts: Parts, name: str) -> Branch:
    """One of them, also if it is damaged. Raises: NotFoundError with names that look like it."""
    there = known(parts)
    if name in there.broken:
        return _described(parts, there, name)
    file = find(parts, name)
    while (found := describe(parts, file)).problem and (now := find(parts, name)).id != file.id:
        file = now  # that one was removed meanwhile
    return found


def describe(parts: Parts, file: BranchFile) -> Branch:
    """The branch as people see it; one that cannot be opened has a problem."""
    used_bytes = shared_bytes = in_use = 0
    problem = ""
    try:
        with opened(parts, file) as branch:
            facts = branch.facts()
        used_bytes, shared_bytes, in_use = facts.used_bytes, facts.shared_bytes, facts.files
        if facts.failed:
            problem = f"writes to it failed: {os.strerror(-facts.failed)}"
    except VsnapfsError as error:
        problem = str(error)
    return Branch(
        name=file.name,
        id=file.id,
        source=file.source,
        parent=file.parent,
        seqno=file.seqno,
        time=iso(file.time_ns),
        bookmark=file.bookmark,
        created=iso(file.created_ns),
        quota_bytes=file.quota_bytes,
        used_bytes=used_bytes,
        shared_bytes=shared_bytes,
        volumes=file.volumes,
        in_use=in_use,
        note=file.note,
        report=file.report,
        problem=problem,
    )


def manifest(parts: Parts, name: str) -> dict[str, Any]:
    """``MANIFEST.json`` of a branch: the same bytes whenever it is asked for.

    Shape: {"format": 1, "repository": uuid, "branch": {"name", "id", "source", "parent", "seqno", "time", "bookmark", "created",
    "note"}, "volumes": [BranchVolume]}.
    """
    file = find(parts, name)
    return {
        "format": MANIFEST_FORMAT,
        "repository": str(parts.uuid),
        "branch": {
            "name": file.name,
            "id": file.id,
            "source": file.source,
            "parent": file.parent,
            "seqno": file.seqno,
            "time": iso(file.time_ns),
            "bookmark": file.bookmark,
            "created": iso(file.created_ns),
            "note": file.note,
        },
        "volumes": msgspec.to_builtins(file.volumes),
    }


def _described(parts: Parts, there: Found, name: str) -> Branch:
    if name not in there.files:
        return _unknown(name, there.broken[name])
    found = describe(parts, there.files[name])
    return msgspec.structs.replace(found, problem=there.broken[name]) if name in there.broken else found


def _unknown(name: str, why: str) -> Branch:
    """A branch of which no more is known than that there is a file of that name."""
    return Branch(
        name=name,
        id=0,
        source="",
        parent=None,
        seqno=0,
        time=iso(0),
        bookmark=None,
        created=iso(0),
        quota_bytes=None,
        used_bytes=0,
        shared_bytes=0,
        volumes=[],
        in_use=0,
        note="",
        report=None,
        problem=why,
    )
