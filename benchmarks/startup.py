"""How long `import valuerec` and the command line take to start, beside an empty Python.

python benchmarks/startup.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from provenance import provenance

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import valuerec": [sys.executable, "-c", "import valuerec"],
    "valuerec --help": [str(Path(sys.executable).with_name("valuerec")), "--help"],
    "valuerec train --help": [str(Path(sys.executable).with_name("valuerec")), "train", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.repeats):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if options.json:
        print(json.dumps(medians | provenance(), indent=2))
    else:
        for name, value in medians.items():
            print(f"{value:6.3f} s  {name}")


if __name__ == "__main__":
    main()
