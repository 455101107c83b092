"""Recommending for a file of sessions, from the checks to the whole file in its place."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import valuerec
from valuerec.backbones import Backbone
from valuerec.bulk.answers import Answers, Catalogue, join_parts, write_part
from valuerec.bulk.columns import Known, rank
from valuerec.bulk.staging import PART, Staged, read_part, stage
from valuerec.bulk.work import Work, folder_of
from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import MANIFEST, explained_io, sha256
from valuerec.interrupts import Asked
from valuerec.model import Model, checked_k, load
from valuerec.sessions import check_format

_AHEAD: Final = 2  # batches a thread that wait to be written

Progress = Callable[[int, int], None]


class Recommended(NamedTuple):
    """How recommending for a file went.

    `empty_sessions` had no item to begin with; `sessions_without_known_items` counts them too.
    """

    sessions: int
    recommendations: int
    unknown_items: int
    empty_sessions: int
    sessions_without_known_items: int

    @property
    def many_unknown(self) -> bool:
        """Whether there is an unknown item in every tenth session, or more, on average: the catalogue has changed."""
        return 10 * self.unknown_items >= self.sessions


def recommend(
    model: str | Path,
    sessions: str | Path,
    *,
    out: str | Path,
    k: int,
    exclude_seen: bool,
    resume: bool,
    backbone: Backbone | None,
    progress: Progress | None,
) -> Recommended:
    """See `valuerec.stages.recommend`."""
    source, target = Path(sessions), Path(out)
    _check_files(source, target)
    k = checked_k(k)
    ranking = load(model, backbone)
    begun_with = {
        "model": model_digest(ranking),
        "input": _digest(source),
        "k": k,
        "exclude_seen": exclude_seen,
        "format": target.suffix.lower(),
        "sessions a part": PART,
        "valuerec": valuerec.__version__,
        "torch": str(torch.__version__),
        "pyarrow": pa.__version__,
    }
    with explained_io(f"Writing {out}"):
        if target.exists() and not (resume and folder_of(target).is_dir()):
            raise UsageError(f"The output {out} exists already; remove it or name another file.")
        work = Work(target, begun_with)
        try:
            return _Job(work, ranking, source, k, exclude_seen, progress).run(resume)
        finally:
            work.release()


def _check_files(source: Path, target: Path) -> None:
    check_format(target)
    check_format(source)
    with explained_io(f"Writing {target}"):
        if target.is_dir() or (target.exists() and source.exists() and target.samefile(source)):
            what = "a folder" if target.is_dir() else "the input"
            raise UsageError(f"The output {target} is {what}; name another file.")
        if (target.parent / MANIFEST).is_file():
            raise UsageError(f"The output {target} lies in a folder of valuerec's; name a file elsewhere.")


def _digest(source: Path) -> str:
    with explained_io(f"Reading {source}"):
        return sha256(source)


def model_digest(model: Model) -> str:
    """The SHA-256 of all that answers depend on: weights, catalogue, and how the network is put together."""
    digest = hashlib.sha256()
    what = [model.config["backbone"], model.config["method"], model.network.window, model.item_ids]
    digest.update(json.dumps(what, sort_keys=True).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy() if tensor.numel() else b"")
    return digest.hexdigest()


class _Job:
    """One call's work."""

    def __init__(
        self, work: Work, model: Model, source: Path, k: int, exclude_seen: bool, progress: Progress | None
    ) -> None:
        self._work, self._model, self._source = work, model, source
        self._rank = partial(rank, model, k=k, exclude_seen=exclude_seen)
        self._progress, self._asked = progress or (lambda done, total: None), Asked()
        self._ending = work.target.suffix.lower()

    def run(self, resume: bool) -> Recommended:
        """From the beginning, or from where an earlier call stopped."""
        work = self._work
        if work.target.exists():
            recommendations = work.finished()
            if recommendations is None:
                work.remove_if_empty()
                raise UsageError(f"The output {work.target} exists already; remove it or name another file.")
            work.remove()
            return _told(work.staged, recommendations)
        self._begin(resume)
        try:
            with explained_io(f"Writing {work.target}"), self._asked.listening():
                self._work_parts()
                answers = work.path / "answers"
                join_parts(answers, self._ending, work.parts)
                work.finish(answers)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("go on with the same and --resume.") from None
        except ValuerecError as error:
            raise self._kept(error) from error
        return _told(work.staged, sum(work.recommendations))

    def _begin(self, resume: bool) -> None:
        """Have the sessions staged, and know how many parts are done."""
        work = self._work
        done = work.begun()
        if done and not resume:
            raise UsageError(
                f"{work.target} was begun before: {done} parts of {PART} sessions are done. Go on with --resume, or "
                f"remove {work.path} to begin anew."
            )
        if done is not None and resume:
            work.resume()
            return
        work.clear()
        try:
            before = self._source.stat()
            staged = stage(self._source, self._model.index, work.path, work.sessions)
            after = self._source.stat()
            if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
                raise ValuerecError(f"{self._source} changed while it was read; begin again when it is whole.")
            work.begin(staged)
        except BaseException:
            work.remove()
            raise

    def _work_parts(self) -> None:
        work, total = self._work, self._work.staged.sessions
        catalogue = Catalogue(self._model.item_ids)
        first = len(work.recommendations)
        done = first * PART
        self._progress(min(done, total), total)
        waiting: list[Answers] = []
        for answers in self._answers(first):
            waiting.append(answers)
            done += len(answers.session_B)
            self._progress(done, total)
            if done % PART and done < total:
                continue
            written = work.path / "writing"
            write_part(written, self._ending, waiting, catalogue)
            work.add(written, sum(len(each.columns.item_F) for each in waiting))
            waiting = []
            if self._asked:
                raise KeyboardInterrupt

    def _answers(self, first: int) -> Iterator[Answers]:
        """Batch after batch, from a part on; each is ranked by one thread, and a few are ahead of what is written."""
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        waiting: deque[tuple[Any, Any, Future[Any]]] = deque()
        try:
            for session_B, unknown_B, known in self._batches(first):
                waiting.append((session_B, unknown_B, pool.submit(self._rank, known)))
                if len(waiting) > _AHEAD * threads:
                    yield _answered(*waiting.popleft())
            while waiting:
                yield _answered(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # for what a thread says of itself, a library takes for all

    def _batches(self, first: int) -> Iterator[tuple[Any, Any, Known]]:
        with pq.ParquetFile(self._work.sessions) as staged:
            for number in range(first, staged.num_row_groups):
                part, start = read_part(staged, number), 0
                for known in part.known.split(self._model.batch):
                    stop = start + len(known)
                    yield part.session_B[start:stop], part.unknown_B[start:stop], known
                    start = stop

    def _kept(self, error: ValuerecError) -> ValuerecError:
        """An error of the work; what is done is kept and said so, or nothing is."""
        if self._work.recommendations:
            done = f"{len(self._work.recommendations)} parts of {PART} sessions are kept"
            return type(error)(f"{error} {done}; go on with --resume.")
        self._work.remove()
        return error


def _answered(session_B: Any, unknown_B: Any, ranked: Future[Any]) -> Answers:
    return Answers(session_B, unknown_B, ranked.result())


def _told(staged: Staged, recommendations: int) -> Recommended:
    return Recommended(staged.sessions, recommendations, staged.unknown_items, staged.empty, staged.without_known)
