"""Bundles with spoilt files, loaded one after the other: what is noticed, what crashes, what it takes.

Needs Linux, whose /proc tells what memory a load took.

python benchmarks/mutants.py [--count 100000] [--damaged] [--out benchmarks/out/mutants.json] [--seed 0] [--json]

Forged mutants (`mutations.py`) have hashes made right again, so that the mutation gets past them: each must be refused
with one sentence or load, and recommend, as any bundle does. Damaged ones (`--damaged`) keep the old hashes: each must
be refused. No load may compile, run or import anything, start a process, open a socket or write a file (told by an
audit hook), nor take more memory than twice the bundle's size and 32 MiB (told by the kernel's peak of the process,
which is set back before each; a limit of a gigabyte on addresses makes asking for more a crash, used or not).

Loading happens in child processes of a thousand mutants; the tally is kept after each, and the same command goes on
where it was. A child that dies is counted as a crash of the mutant it was at, and the next goes on behind it.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mutations
import valuerec as vr
from valuerec.errors import ValuerecError

SLACK = 32 << 20  # bytes
CHUNK = 1000
SESSIONS = [["i001", "i002"], ["i007"], []]
FORBIDDEN = (
    *("compile", "exec", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "code.__new__"),
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.mkdir"),
    *("shutil.rmtree", "socket.connect", "socket.bind", "urllib.Request"),
)

_seen: list[str] = []
_watching = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in FORBIDDEN or event.startswith(("socket.", "subprocess.")):
        _seen.append(event)
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        _seen.append(f"open {arguments[1]}")


@dataclass
class Tally:
    """What came of the mutants so far; `outcomes` by mutation, the rest by number."""

    next: int = 0
    seconds: float = 0.0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    crashes: list[dict[str, Any]] = field(default_factory=list)
    executed: list[dict[str, Any]] = field(default_factory=list)
    too_large: list[dict[str, Any]] = field(default_factory=list)
    most_memory: int = 0

    def count(self, mutation: str, outcome: str) -> None:
        """One more."""
        counts = self.outcomes.setdefault(mutation, {})
        counts[outcome] = counts.get(outcome, 0) + 1

    def add(self, other: Tally) -> None:
        """What a chunk came to."""
        for mutation, counts in other.outcomes.items():
            for outcome, number in counts.items():
                mine = self.outcomes.setdefault(mutation, {})
                mine[outcome] = mine.get(outcome, 0) + number
        self.crashes += other.crashes
        self.executed += other.executed
        self.too_large += other.too_large
        self.most_memory = max(self.most_memory, other.most_memory)

    def total(self) -> collections.Counter[str]:
        """Counts by outcome."""
        counts: collections.Counter[str] = collections.Counter()
        for each in self.outcomes.values():
            counts.update(each)
        return counts


def small_bundle(folder: Path) -> Path:
    """A bundle with a critic, of thirty items, made of a made-up log by the functions that anybody uses."""
    draw = random.Random(0)
    rows = ["session,item,time,event"]
    for session in range(200):
        for place in range(6):
            item, event = (session + place * draw.randint(1, 2)) % 30, "click" if place % 3 else "purchase"
            rows.append(f"s{session},i{item:03d},{1_700_000_000 + 60 * session + place},{event}")
    (folder / "log.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    columns = {name: name for name in ("session", "item", "time", "event")}
    data = vr.prepare([folder / "log.csv"], format="events", columns=columns, out=folder / "data")
    options: dict[str, Any] = {"backbone": vr.SASRec(width=4), "method": vr.VPQ(heads=3), "max_steps": 3}
    run = vr.train(data, out=folder / "run", quiet=True, **options)
    return vr.export(run, out=folder / "bundle", onnx=False)


def load_mutants(bundle: Path, work: Path, seed: int, numbers: Iterable[int], forged: bool) -> Tally:
    """Load these mutants in this process.

    Args:
        bundle: the bundle whose files are spoilt; it is only read.
        work: a folder to write mutants to, and the number of the present one to `number`.
        seed: of the mutations.
        numbers: which mutants.
        forged: hashes made right again.
    """
    global _watching
    files = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}
    budget = 2 * sum(map(len, files.values())) + SLACK
    folder = work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    expected = vr.load(folder).recommend(SESSIONS, k=5)  # what is imported late is imported now
    sys.addaudithook(_hear)  # can't be taken off again, and so hears only while `_watching`
    tally = Tally()
    at = (work / "number").open("wb", buffering=0)
    for number in numbers:
        os.pwrite(at.fileno(), b"%20d" % number, 0)
        mutation, spoilt = mutations.mutant(files, seed, number, forged)
        _put(folder, files, spoilt)
        before = _reset_peak()
        _seen.clear()
        _watching = True
        try:
            outcome = _outcome(folder, expected)
        except Exception as error:
            outcome = "crashed"
            text = f"{type(error).__name__}: {error}"[:300]
            tally.crashes.append({"number": number, "mutation": mutation, "error": text})
        finally:
            _watching = False
        took = _peak() - before
        tally.count(mutation, outcome)
        tally.most_memory = max(tally.most_memory, took)
        if _seen:
            tally.executed.append({"number": number, "mutation": mutation, "events": sorted(set(_seen))})
        if took > budget:
            tally.too_large.append({"number": number, "mutation": mutation, "bytes": took})
        _put(folder, spoilt, files)
    at.close()
    return tally


def _put(folder: Path, there: mutations.Files, wanted: mutations.Files) -> None:
    """Change the folder from what is there to what is wanted."""
    for name in there.keys() - wanted.keys():
        (folder / name).unlink()
    for name, content in wanted.items():
        if there.get(name) != content:
            (folder / name).write_bytes(content)


def _outcome(folder: Path, expected: list[Any]) -> str:
    try:
        model = vr.load(folder)
    except ValuerecError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence.endswith(".") or len(sentence) > 1000:
            raise AssertionError(f"no sentence: {sentence[:200]!r}") from error
        return "refused"
    return "equal" if model.recommend(SESSIONS, k=5) == expected else "other"


def _reset_peak() -> int:
    """Set the kernel's peak of this process back; returns its memory now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"the kernel does not tell {name}")


def _child(options: argparse.Namespace) -> None:
    """A chunk, in a process of its own; the answer is one line of JSON."""
    import resource

    import torch

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + (1 << 30), hard))
    torch.set_num_threads(1)
    start, stop = options.chunk
    tally = load_mutants(options.bundle, options.work, options.seed, range(start, stop), not options.damaged)
    print(json.dumps(asdict(tally)))


def _run(options: argparse.Namespace, bundle: Path, work: Path) -> Tally:
    """All chunks, going on from what is kept in `options.out`."""
    out: Path = options.out
    what = {"seed": options.seed, "damaged": options.damaged}
    kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"of": what, "tally": asdict(Tally())}
    if kept["of"] != what:
        raise SystemExit(f"{out} is of {kept['of']}, not of {what}; name another file with --out.")
    tally = Tally(**kept["tally"])
    out.parent.mkdir(parents=True, exist_ok=True)
    while tally.next < options.count:
        began = time.perf_counter()
        start, stop = tally.next, min(tally.next + CHUNK, options.count)
        command = [sys.executable, __file__, "--bundle", str(bundle), "--work", str(work), "--seed", str(options.seed)]
        command += ["--chunk", str(start), str(stop), *(["--damaged"] if options.damaged else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            tally.add(Tally(**json.loads(done.stdout.splitlines()[-1])))
            tally.next = stop
        else:  # what the chunk had counted before is counted again, up to the mutant that killed it
            fatal = int((work / "number").read_text(encoding="ascii"))
            if fatal > start:
                command[command.index("--chunk") + 2] = str(fatal)
                again = subprocess.run(command, capture_output=True, text=True, check=True)
                tally.add(Tally(**json.loads(again.stdout.splitlines()[-1])))
            tally.count("killed", "crashed")
            tally.crashes.append({"number": fatal, "mutation": "killed", "error": f"exit code {done.returncode}: "
                                  f"{done.stderr[-200:]}"})  # fmt: skip
            tally.next = fatal + 1
        tally.seconds += time.perf_counter() - began
        partial = out.with_suffix(".partial")
        partial.write_text(json.dumps({"of": what, "tally": asdict(tally)}, indent=2) + "\n", encoding="utf-8")
        partial.replace(out)
        if not options.json:
            print(f"{tally.next} of {options.count}: {dict(tally.total())}", flush=True)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--damaged", action="store_true", help="leave the hashes as they were")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="of items i000 to i029; by default one is made")
    parser.add_argument("--out", type=Path, help="where the tally is kept")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.chunk:
        _child(options)
        return
    name = "damaged" if options.damaged else "forged"
    options.out = options.out or Path(__file__).parent / "out" / f"mutants-{name}.json"
    os.environ["OMP_NUM_THREADS"] = "1"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files come and go by the thousand
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        tally = _run(options, options.bundle or small_bundle(Path(folder)), Path(folder) / "work")
    total = tally.total()
    good = not (tally.crashes or tally.executed or tally.too_large)
    if options.damaged:
        good = good and total["refused"] == tally.next
    if options.json:
        from provenance import provenance

        print(json.dumps(asdict(tally) | {"total": total, "good": good} | provenance(), indent=2))
    else:
        for mutation, counts in sorted(tally.outcomes.items()):
            print(f"{mutation:18} {counts}")
        print(
            f"{tally.next} mutants, {tally.seconds:.0f} s: {dict(total)}; {len(tally.crashes)} crashes, "
            f"{len(tally.executed)} that did what they must not, {len(tally.too_large)} too large, at most "
            f"{tally.most_memory / 2**20:.1f} MiB more than before"
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()
