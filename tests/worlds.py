"""Small datasets written out by hand, for tests that must not depend on `prepare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from valuerec.dataset import CLICK, PURCHASE, SPLITS, Dataset
from valuerec.folders import write_manifest

Sessions = Sequence[Sequence[tuple[int, str]]]

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"


def write_dataset(
    folder: Path,
    splits: Mapping[str, Sessions],
    n_items: int,
    ends: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    unit: str = "s",
) -> Dataset:
    """A dataset folder of sessions given as [(item, "c" or "p"), ...] for each split, and when each session ended."""
    folder.mkdir(parents=True)
    sessions = [session for split in SPLITS for session in splits.get(split, [])]
    events = [event for session in sessions for event in session]
    offsets = np.concatenate([[0], np.cumsum([len(session) for session in sessions])])
    arrays = {
        "item": np.array([item for item, _ in events], dtype=np.int32),
        "event": np.array([PURCHASE if kind == "p" else CLICK for _, kind in events], dtype=np.uint8),
        "offset": offsets.astype(np.int64),
    }
    save_file(arrays, folder / "arrays.safetensors")
    names = list(ids or (f"i{item:03d}" for item in range(n_items)))
    pq.write_table(pa.table({"item": names}), folder / "items.parquet")
    pq.write_table(pa.table({"end": list(ends or range(len(sessions)))}), folder / "sessions.parquet")
    counts = {
        "sessions": len(sessions),
        "items": n_items,
        "events": len(events),
        "clicks": sum(kind == "c" for _, kind in events),
        "purchases": sum(kind == "p" for _, kind in events),
    }
    sizes = {split: {"events": sum(len(session) for session in splits.get(split, []))} for split in SPLITS}
    content = {"counts": counts, "splits": sizes, "fingerprint": f"by hand: {hash(str((splits, ids)))}"}
    write_manifest(folder, "dataset", 1, content | {"time": {"unit": unit}})
    return Dataset(folder)


def random_sessions(draw: np.random.Generator, count: int, n_items: int, longest: int = 8) -> Sessions:
    """Sessions with a pattern to learn: the next item is mostly the one after."""
    sessions = []
    for _ in range(count):
        item, session = int(draw.integers(n_items)), []
        for _ in range(int(draw.integers(2, longest + 1))):
            session.append((item, "p" if draw.random() < 0.2 else "c"))
            item = (item + 1) % n_items if draw.random() < 0.8 else int(draw.integers(n_items))
        sessions.append(session)
    return sessions
