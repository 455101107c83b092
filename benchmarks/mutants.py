"""Bundles with spoilt files, loaded one after the other: what is noticed, what crashes, what it takes.

Needs Linux, whose /proc tells what memory a load took.

python benchmarks/mutants.py [--count 100000] [--damaged] [--large] [--out FILE] [--seed 0] [--json]

Forged mutants (`mutations.py`) have hashes made right again, so that the mutation gets past them: each must be refused
with one sentence or load, and recommend, as any bundle does; of each tenth, `valuerec info` must print it, or refuse
it, and nothing that steers a terminal, and what loads must be served, with its card and its metrics. Damaged ones
(`--damaged`) keep the old hashes: each must be refused. Nothing of this may compile, run or import anything, start a
process, open a socket or write a file (told by an audit hook), nor take more memory than twice the bundle's size and
32 MiB (told by the kernel's peak of the process, which is set back before each; a limit of a gigabyte on addresses
makes asking for more a crash, used or not). With `--large` the bundle has 80 MB, of 150,000 items of width 64, or of as
many items as follow; then no more is done than to load and to recommend, `load` may take twice the bundle's size and
4 MiB, which is the interpreter's own, and the largest share of the size that a load took is told.

Loading happens in child processes of a thousand mutants; the tally is kept after each, and the same command goes on
where it was. A child that dies is counted as a crash of the mutant it was at, and the next goes on behind it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutations
import valuerec as vr
from valuerec.backbones import BACKBONES
from valuerec.bundle import CARD, CONFIG, METRICS, SCHEMA_VERSION, VOCABULARY, WEIGHTS
from valuerec.bundle.vocabulary import write_vocabulary
from valuerec.cli import _print_info, _print_json
from valuerec.errors import ValuerecError
from valuerec.folders import write_json, write_manifest, write_text
from valuerec.methods import METHODS
from valuerec.recipe import _types
from valuerec.serving.guard import dumps
from valuerec.serving.routes import described
from valuerec.serving.versions import Versions
from valuerec.tensors import save_tensors

SLACK = 32 << 20  # bytes, of all that is done with a small bundle
SLACK_OF_LOAD = 4 << 20  # of loading a large one
CHUNK = 1000
SHOWN_EVERY = 10  # mutants: printing a table takes longer than loading a small bundle
LARGE = 150_000  # items
SESSIONS = [["i001", "i002"], ["i007"], []]
FORBIDDEN = (
    *("compile", "exec", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "code.__new__"),
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.mkdir"),
    *("shutil.rmtree", "socket.connect", "socket.bind", "urllib.Request"),
)

STEERING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

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
    largest_share: float = 0.0  # of its size, that a load took

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
        self.largest_share = max(self.largest_share, other.largest_share)

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


def large_bundle(folder: Path, items: int, width: int = 64) -> Path:
    """A bundle of fresh weights, of as many items as one likes: training would change no size."""
    backbone, method = vr.SASRec(width=width), vr.Supervised()
    folder.mkdir(parents=True)
    save_tensors(folder / WEIGHTS, method.network(backbone, items, 10).state_dict())
    config = {
        "dataset": {"fingerprint": "made up", "items": items},
        "backbone": {"name": "sasrec", **asdict(backbone)},
        "method": {"name": method.name, **asdict(method)},
        "rewards": {"click": 0.2, "purchase": 1.0},
        "training": {"window": 10},
    }
    write_json(folder / CONFIG, config)
    write_vocabulary(folder / VOCABULARY, [f"i{item:03d}" for item in range(items)])
    figures = {f"{name}@{k}": 0.5 for name in ("hr", "ndcg") for k in (5, 10, 20)}
    split = {"purchase": figures, "click": figures}
    selection = {"by": "nothing", "step": 1}
    scores = {"test": split, "validation": split, "selection": selection, "steps": 1, "seconds": 0.0, "status": "made"}
    write_json(folder / METRICS, scores)
    write_text(folder / CARD, "# Made up\n")
    content = {"valuerec": vr.__version__, "step": 1, "onnx": {"file": None, "why": "not asked for."}}
    write_manifest(folder, "bundle", SCHEMA_VERSION, content)
    return folder


def load_mutants(
    bundle: Path, work: Path, seed: int, numbers: Iterable[int], forged: bool, large: bool = False
) -> Tally:
    """Load these mutants in this process.

    Args:
        bundle: the bundle whose files are spoilt; it is only read.
        work: a folder to write mutants to, and the number of the present one to `number`.
        seed: of the mutations.
        numbers: which mutants.
        forged: hashes made right again.
        large: compare what loading takes with the bundle's size, which the interpreter's own would hide in a small one.
    """
    global _watching
    files = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}
    folder = work / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    expected = vr.load(folder).recommend(SESSIONS, k=5)
    _look_at(folder)  # what is imported late is imported now
    _serve(folder)
    for kind in (*METHODS.values(), *BACKBONES.values()):  # mutants name others, whose annotations Python compiles once
        _types(kind)
    sys.addaudithook(_hear)  # can't be taken off again, and so hears only while `_watching`
    tally = Tally()
    at = (work / "number").open("wb", buffering=0)
    for number in numbers:
        os.pwrite(at.fileno(), b"%20d" % number, 0)
        mutation, spoilt = mutations.mutant(files, seed, number, forged)
        _put(folder, files, spoilt)
        if large:
            gc.collect()  # what was loaded before
        before = _reset_peak()
        _seen.clear()
        _watching = True
        try:
            took = 0
            model = _loaded(folder)
            took = _peak() - before
            outcome = "refused" if model is None else "equal" if _recommends(model, expected) else "other"
            del model
            if not large and number % SHOWN_EVERY == 0:
                _look_at(folder)
                if outcome != "refused":
                    _serve(folder)
        except Exception as error:
            outcome = "crashed"
            text = f"{type(error).__name__}: {error}"[:300]
            tally.crashes.append({"number": number, "mutation": mutation, "error": text})
        finally:
            _watching = False
        size = sum(map(len, spoilt.values()))
        if large:
            tally.largest_share, budget = max(tally.largest_share, took / size), 2 * size + SLACK_OF_LOAD
        else:
            took, budget = _peak() - before, 2 * size + SLACK
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


def _loaded(folder: Path) -> vr.Model | None:
    """The model; None where it is refused."""
    with _in_a_sentence():
        return vr.load(folder)
    return None


def _recommends(model: vr.Model, expected: list[Any]) -> bool:
    return model.recommend(SESSIONS, k=5) == expected


def _look_at(folder: Path) -> None:
    """What `valuerec info` does with it."""
    printed = io.StringIO()
    with _in_a_sentence(), contextlib.redirect_stdout(printed):
        answer = vr.info(folder)
        _print_info(folder, answer)
        _print_json(answer)
    if found := STEERING.search(printed.getvalue()):
        raise AssertionError(f"printed {found[0]!r}")


def _serve(folder: Path) -> None:
    """What `valuerec serve` reads of it and tells."""
    with _in_a_sentence():
        versions = Versions(folder, 1.0, lambda what, fields: None)
        service = SimpleNamespace(name="mutant", versions=versions)
        dumps(described(service, versions.current))  # type: ignore[arg-type]


@contextlib.contextmanager
def _in_a_sentence() -> Iterator[None]:
    """A refusal inside is one; it must be told in a sentence."""
    try:
        yield
    except ValuerecError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence.endswith(".") or len(sentence) > 1000:
            raise AssertionError(f"no sentence: {sentence[:200]!r}") from error


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
    more = (1 << 30) + 8 * sum(path.stat().st_size for path in options.bundle.iterdir())  # mutants are made here, too
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + more, hard))
    torch.set_num_threads(1)
    start, stop = options.chunk
    numbers, large = range(start, stop), options.large is not None
    tally = load_mutants(options.bundle, options.work, options.seed, numbers, not options.damaged, large)
    print(json.dumps(asdict(tally)))


def _run(options: argparse.Namespace, bundle: Path, work: Path) -> Tally:
    """All chunks, going on from what is kept in `options.out`."""
    out: Path = options.out
    what = {"seed": options.seed, "damaged": options.damaged, "large": options.large}
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
        command += [] if options.large is None else ["--large", str(options.large)]
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
    parser.add_argument("--large", type=int, nargs="?", const=LARGE, metavar="ITEMS", help="a bundle of so many items")
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
    name = ("damaged" if options.damaged else "forged") + ("" if options.large is None else "-large")
    options.out = options.out or Path(__file__).parent / "out" / f"mutants-{name}.json"
    os.environ["OMP_NUM_THREADS"] = "1"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files come and go by the thousand
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        if options.bundle is None:
            place = Path(folder)
            options.bundle = (
                small_bundle(place) if options.large is None else large_bundle(place / "bundle", options.large)
            )
        tally = _run(options, options.bundle, Path(folder) / "work")
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
            + ("" if options.large is None else f", {tally.largest_share:.2f} times the bundle's size")
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()
