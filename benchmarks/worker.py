"""One case in a process of its own: reads a request in JSON, answers with its rows in JSON.

On its own because libxenguest may abort, because memory is measured, and because only one libxenctrl fits into a
process.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import peer


def main() -> None:
    """The program."""
    request: dict[str, Any] = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    folder = Path(request["standin"]) if request["standin"] else None
    if folder:
        peer.load(folder)
    from benchmarks.context import Context
    from benchmarks.measure import BEST_OF

    BEST_OF.runs = request["best"]
    library = peer.libxenguest(folder) if folder else None
    context = Context(library, request["repeats"], request["quick"], Path(request["disk"]), folder)
    case = importlib.import_module(f"benchmarks.cases.{request['case']}")
    rows = [x.to_dict() for x in case.run(context)]
    if library:
        library.close()
    json.dump(rows, answer)
    answer.close()


if __name__ == "__main__":
    main()
