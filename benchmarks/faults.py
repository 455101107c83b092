"""A training process whose files fail on purpose: it is killed, or an operation fails, at the n-th operation.

Operations are those in one folder: mkdir, write, fsync (of files and folders), replace, rename, unlink and rmdir,
counted from 1. The file layer is Python's own, wrapped in the child alone; a write that is killed or fails has written
half.
"""

from __future__ import annotations

import builtins
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

REMOVALS: Final = ("rename", "unlink", "rmdir")  # valuerec may let these fail


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Args:
        at: the operation at which; None for none.
        errno: the error of that operation; None for SIGKILL.
        lasting: whether all later ones fail too, as on a disk that stays full.
    """

    at: int | None = None
    errno: int | None = None
    lasting: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a child.

    `code` is the exit code, negative for a signal; `steps` the steps it had begun; `committed` the steps of the
    checkpoints whose rename was flushed; `kinds` of its operations; `stderr` what it said.
    """

    code: int
    steps: int
    committed: list[int]
    kinds: list[str]
    stderr: str


class FileLayer:
    """Counts the operations under a folder, tells them to a trace file, and lets one of them go wrong."""

    def __init__(self, folder: Path, trace: Path, fault: Fault) -> None:
        self.folder, self.fault, self.count = str(folder), fault, 0
        self.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._renamed: str | None = None

    def tell(self, *words: object) -> None:
        """Add a line to the trace."""
        os.write(self.trace, (" ".join(map(str, words)) + "\n").encode())

    def due(self, kind: str) -> bool:
        """Count an operation; whether it is to go wrong."""
        self.count += 1
        self.tell("op", kind)
        fault = self.fault
        if fault.at is None or (fault.errno is not None and kind in REMOVALS):
            return False
        return self.count == fault.at or (fault.lasting and self.count > fault.at)

    def strike(self) -> None:
        """The fault itself."""
        if self.fault.errno is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(self.fault.errno, os.strerror(self.fault.errno))

    def at(self, kind: str) -> None:
        """An operation that does all or nothing."""
        if self.due(kind):
            self.strike()

    def ours(self, path: Any) -> bool:
        """Whether a path lies in the folder."""
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder)

    def install(self) -> None:
        """Put the layer between this process and its files, for good."""
        for name in ("mkdir", "unlink", "rmdir", "rename", "replace"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        self._fsync, os.fsync = os.fsync, self.fsync
        self._open = io.open
        io.open = builtins.open = self.open  # type: ignore[assignment]

    def _wrapped(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, *rest: Any, **options: Any) -> Any:
            if self.ours(path) or options.get("dir_fd") is not None:  # rmtree names files beside an open folder
                self.at(kind)
            answer = real(path, *rest, **options)
            if kind == "replace":
                self._renamed = Path(rest[0]).name
            return answer

        return wrapped

    def fsync(self, descriptor: int) -> None:
        """In place of `os.fsync`; a checkpoint's rename is committed by it."""
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if self.ours(path):
            self.at("fsync")
        self._fsync(descriptor)
        if self._renamed and self._renamed.startswith("step-") and path.endswith("/checkpoints"):
            self.tell("committed", int(self._renamed.rpartition("-")[2]))
            self._renamed = None

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        """In place of `open`."""
        if not set(mode) & set("wax+") or not self.ours(file):
            return self._open(file, mode, buffering, *rest, **options)
        raw = io.BufferedWriter(_File(self, os.fspath(file), mode.replace("b", "")))
        return raw if "b" in mode else io.TextIOWrapper(raw, *rest, **options)


class _File(io.FileIO):
    """A file whose writes the layer counts."""

    def __init__(self, layer: FileLayer, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._layer = layer

    def write(self, data: Any) -> int:
        if self._layer.due("write"):
            super().write(bytes(data)[: len(data) // 2])
            self._layer.strike()
        return super().write(data)


def _child(line: list[str], folder: Path, trace: Path, told: Path, fault: Fault) -> None:
    import torch

    from valuerec import cli
    from valuerec.training.trainer import Trainer

    torch.set_num_threads(1)
    descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    layer = FileLayer(folder, trace, fault)
    real = Trainer._one_step

    def one_step(self: Trainer) -> None:
        layer.tell("step", self.step + 1)
        real(self)

    Trainer._one_step = one_step  # type: ignore[method-assign]
    layer.install()
    code = cli.run(line)
    sys.stderr.flush()
    os._exit(code)


def run_child(
    line: list[str], folder: Path, scratch: Path, fault: Fault = Fault(), kill_after: float | None = None
) -> Outcome:
    """Run a command line of valuerec's in a process of its own, forked from one that has imported everything.

    Args:
        line: without the word `valuerec`.
        folder: the operations under it are counted.
        scratch: an existing folder for the trace, outside of `folder`.
        fault: what goes wrong.
        kill_after: seconds after which the process is killed from outside.
    """
    context = multiprocessing.get_context("forkserver")
    packages = ["valuerec.cli", "valuerec.stages", "valuerec.training", "valuerec.model", "torch._dynamo"]
    context.set_forkserver_preload(packages)
    trace, told = scratch / "trace", scratch / "told"
    for path in (trace, told):
        path.write_bytes(b"")
    child = context.Process(target=_child, args=(line, folder, trace, told, fault))
    child.start()
    child.join(kill_after)
    if child.exitcode is None and kill_after is not None:
        child.kill()
    child.join()
    words = [entry.split() for entry in trace.read_text().splitlines()]
    return Outcome(
        code=child.exitcode or 0,
        steps=max((int(value) for name, value in words if name == "step"), default=0),
        committed=[int(value) for name, value in words if name == "committed"],
        kinds=[value for name, value in words if name == "op"],
        stderr=told.read_text(errors="replace"),
    )
