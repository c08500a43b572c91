"""How much the fault suite does: little in CI, an hour's work with `FAULTS=long`."""

import json
import os
import pathlib

LONG = os.environ.get("FAULTS") == "long"


def scale(short: int, long: int) -> int:
    """The amount of something that a test does, in the form that runs."""
    return long if LONG else short


def record(fault: str, **figures: float | str) -> None:
    """Adds what a test did and found to the file that `FAULT_FIGURES` names, a line of JSON each.

    `fault` names what was done to the service. SECURITY.md gives the sums of the long form.
    """
    if file := os.environ.get("FAULT_FIGURES"):
        with pathlib.Path(file).open("a") as lines:
            lines.write(json.dumps({"fault": fault, **figures}) + "\n")
