"""The hidden folder of a job in progress: what a stopped one goes on from.

Beside the output OUT it is `.OUT.partial`. It holds `sessions.parquet` (the input, staged), `manifest.json` (what the
job was begun with, and the counts of the input), `part-N` for each part that is done, `parts.jsonl` (a line a part:
size, SHA-256, recommendations), and at the end `answers` and `done.json` (what OUT is to be).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from valuerec.bulk.staging import Staged
from valuerec.errors import UsageError
from valuerec.folders import (
    MANIFEST,
    check_whole,
    flush,
    make_parents,
    read_json,
    read_manifest,
    replaced,
    sha256,
    write_json,
    write_manifest,
)
from valuerec.locks import Lock, try_lock

KIND: Final = "recommendation"
SCHEMA_VERSION: Final = 1
_SESSIONS: Final = "sessions.parquet"
_JOURNAL: Final = "parts.jsonl"
_DONE: Final = "done.json"


def folder_of(target: Path) -> Path:
    """Where the work for an output is."""
    return target.with_name(f".{target.name}.partial")


class Work:
    """A job's folder, locked for this process.

    Args:
        target: the output file.
        begun_with: by name, what the answers depend on; a job goes on with the very same only.

    Raises:
        UsageError: where another process has it, or something else is in its place.
    """

    def __init__(self, target: Path, begun_with: dict[str, Any]) -> None:
        self.target, self.begun_with = target, begun_with
        self.path = folder_of(target)
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise UsageError(f"{self.path} is in the way; remove it or name another output.")
        make_parents(target.parent)
        self.path.mkdir(exist_ok=True)
        self._lock = self._locked()
        self.sessions, self.staged = self.path / _SESSIONS, Staged(0, 0, 0, 0)
        self.recommendations: list[int] = []

    def _locked(self) -> Lock:
        lock = try_lock(self.path)
        if lock is None:
            raise UsageError(f"{self.target} is being written by another process; wait for it or name another output.")
        return lock

    def release(self) -> None:
        """Let other processes have it."""
        self._lock.release()

    @property
    def parts(self) -> list[Path]:
        """The parts that are done, in order."""
        return [self.part(number) for number in range(len(self.recommendations))]

    def part(self, number: int) -> Path:
        """Where a part is."""
        return self.path / f"part-{number:08d}"

    def begun(self) -> int | None:
        """How many parts are said to be done; None where nothing is to be gone on from."""
        if not (self.path / MANIFEST).is_file():
            return None
        return len(self._entries())

    def begin(self, staged: Staged) -> None:
        """Say what the job begins with, its sessions being staged."""
        flush(self.sessions)
        self.staged = staged
        content = {"begun_with": self.begun_with, "counts": staged._asdict()}
        write_manifest(self.path, KIND, SCHEMA_VERSION, content, [self.sessions])

    def resume(self) -> None:
        """Take up what was begun, to the last part that is whole and has only whole ones before it.

        Raises:
            UsageError: where it was begun with something else.
            ValuerecError: where the staged sessions are damaged.
        """
        manifest = read_manifest(self.path, KIND, SCHEMA_VERSION)
        self._check_same(manifest["begun_with"])
        check_whole(self.path, manifest)
        self.staged = Staged(**manifest["counts"])
        whole = []
        for number, entry in enumerate(self._entries()):
            part = self.part(number)
            if not part.is_file() or part.stat().st_size != entry["bytes"] or sha256(part) != entry["sha256"]:
                break
            whole.append(entry)
        self.recommendations = [entry["recommendations"] for entry in whole]
        with replaced(self.path / _JOURNAL) as partial:
            partial.write_text("".join(f"{json.dumps(entry)}\n" for entry in whole))

    def _check_same(self, before: dict[str, Any]) -> None:
        for name, now in self.begun_with.items():
            if before.get(name) != now:
                was = f"{name} = {before.get(name)!r}, now it is {now!r}"
                if name in ("model", "input"):
                    was = f"another {name}"
                raise UsageError(
                    f"{self.target} was begun with {was}; resume with the same, or remove {self.path} to begin anew."
                )

    def _entries(self) -> list[dict[str, Any]]:
        """The journal, as far as it is whole."""
        entries = []
        try:
            lines = (self.path / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # what a killed process was writing
                break
            if not isinstance(entry, dict) or entry.keys() != {"bytes", "sha256", "recommendations"}:
                break
            entries.append(entry)
        return entries

    def add(self, written: Path, recommendations: int) -> None:
        """A part is done."""
        part = self.part(len(self.recommendations))
        flush(written)
        entry = {"bytes": written.stat().st_size, "sha256": sha256(written), "recommendations": recommendations}
        written.replace(part)
        flush(self.path)
        with (self.path / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.recommendations.append(recommendations)

    def finish(self, answers: Path) -> None:
        """Put the whole file in its place, and remove this folder.

        Raises:
            UsageError: where somebody else has put something there meanwhile.
        """
        flush(answers)
        content = {"begun_with": self.begun_with, "counts": self.staged._asdict(), "sha256": sha256(answers)}
        write_json(self.path / _DONE, content | {"recommendations": sum(self.recommendations)})
        if self.target.exists():
            raise UsageError(f"The output {self.target} has appeared meanwhile; remove it, and go on with --resume.")
        answers.replace(self.target)
        flush(self.target.parent)
        self.remove()

    def finished(self) -> int | None:
        """The count of recommendations, where a killed process did all but remove this folder."""
        if not (self.path / _DONE).is_file() or not self.target.is_file():
            return None
        done = read_json(self.path / _DONE)
        if done["begun_with"] != self.begun_with or done["sha256"] != sha256(self.target):
            return None
        self.staged = Staged(**done["counts"])
        return int(done["recommendations"])

    def clear(self) -> None:
        """Empty the folder: first of what says that there is something to go on from, last of what says it is done."""
        (self.path / MANIFEST).unlink(missing_ok=True)
        for each in self.path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != _DONE:
                each.unlink()
        (self.path / _DONE).unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        """Remove the folder where nothing is in it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def remove(self) -> None:
        """Remove the folder."""
        self.clear()
        self.path.rmdir()
        flush(self.path.parent)
