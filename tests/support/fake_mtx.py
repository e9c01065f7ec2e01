"""A program that answers as mtx does for a robot of cartridges that are files: called with the place of its state and mtx's arguments.

The state is a JSON object: ``slots`` and ``drive`` name cartridges, ``log`` is what was asked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def status(state: dict[str, Any]) -> str:
    lines = [f"  Storage Changer /dev/sg9:1 Drives, {len(state['slots'])} Slots ( 1 Import/Export )"]
    loaded = state["drive"]
    if loaded is None:
        lines.append("Data Transfer Element 0:Empty")
    else:
        lines.append(
            f"Data Transfer Element 0:Full (Storage Element {loaded['home']} Loaded):VolumeTag = {loaded['label']}"
        )
    for number, label in sorted((int(number), label) for number, label in state["slots"].items()):
        kind = f"      Storage Element {number}{' IMPORT/EXPORT' if number == len(state['slots']) else ''}"
        lines.append(f"{kind}:Empty" if label is None else f"{kind}:Full :VolumeTag={label}")
    return "\n".join(lines) + "\n"


def move(state: dict[str, Any], verb: str, slot: str) -> str:
    """Returns: what is wrong; empty: nothing."""
    if verb == "load":
        if state["drive"] is not None:
            return "Drive 0 Full (Storage Element 1 loaded)"
        if state["slots"].get(slot) is None:
            return f"source Element Address {slot} is Empty"
        state["drive"] = {"home": slot, "label": state["slots"][slot]}
        state["slots"][slot] = None
    else:
        if state["drive"] is None:
            return "Data Transfer Element 0 is Empty"
        state["slots"][slot] = state["drive"]["label"]
        state["drive"] = None
    return ""


def main(place: Path, arguments: list[str]) -> int:
    state = json.loads(place.read_text())
    state["log"].append(" ".join(arguments))
    words = arguments[2:]
    problem = move(state, words[0], words[1]) if words[0] != "status" else ""
    if words[0] == "status":
        sys.stdout.write(status(state))
    place.write_text(json.dumps(state))
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
