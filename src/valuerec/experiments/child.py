"""One cell in a process of its own: `python -m valuerec.experiments.child`, told by `valuerec.experiments.running`.

The job comes as a line of JSON on standard input, which stays open: when it closes, the parent is gone and so is this
process. In the job's folder it leaves `cell.json` and `ranks.parquet`, or `failed.json` with a sentence.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import torch

from valuerec.errors import ValuerecError
from valuerec.experiments.cell import Cell
from valuerec.experiments.making import make_cell
from valuerec.folders import write_json


def main() -> None:
    """Do the job that standard input names."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    try:
        figures = make_cell(Cell(**job["cell"]), Path(job["data"]), folder, job["device"])
    except ValuerecError as error:
        write_json(folder / "failed.json", {"sentence": str(error)})
    else:
        write_json(folder / "cell.json", figures)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
