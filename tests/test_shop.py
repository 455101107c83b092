from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pytest

from valuerec import shop


def test_the_same_seed_gives_the_same_log(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        shop.write_log(tmp_path / name, 200, seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_the_log_is_as_the_documentation_says(tmp_path: Path) -> None:
    rows = shop.write_log(tmp_path / "log.csv", 20_000, 0)
    table = pa_csv.read_csv(tmp_path / "log.csv")
    assert table.column_names == ["time", "session", "event", "item"] and len(table) == rows
    session, event, item = (np.array(table[name].to_pylist()) for name in ("session", "event", "item"))
    assert len(set(session)) == 20_000 and set(item) <= set(shop.item_ids())
    times = np.array(table["time"].to_pylist(), dtype="datetime64[us]")
    assert (np.diff(times) >= np.timedelta64(0)).all()
    lure = np.char.find(item, "-lure-") >= 0
    click, purchase = event == "view", event == "purchase"
    assert not (lure & purchase).any()
    assert (lure & click).sum() / click.sum() == pytest.approx(shop.P_LURE, abs=0.01)
    assert purchase.sum() / (click & ~lure).sum() == pytest.approx(shop.P_BUY, abs=0.01)
    order = np.lexsort((np.arange(rows), session))
    last = np.append(session[order][1:] != session[order][:-1], True)
    ends_at_lure = last & lure[order]
    assert ends_at_lure.sum() / (lure & click).sum() == pytest.approx(shop.P_END_LURE, abs=0.01)


def test_the_value_of_a_kind_equals_a_simulation() -> None:
    draw = np.random.default_rng(0)
    discount, totals = 0.5, {"lure": [], "good": []}  # type: ignore[var-annotated]
    for trial in range(40_000):
        first = kind = "lure" if trial % 2 else "good"
        total, weight = 0.0, 1.0
        while weight > 1e-5:
            total += weight * 0.2
            weight *= discount
            if kind == "good" and draw.random() < shop.P_BUY:
                total += weight * 1.0
                weight *= discount
            if draw.random() < (shop.P_END_GOOD if kind == "good" else shop.P_END_LURE):
                break
            kind = "lure" if draw.random() < shop.P_LURE else "good"
        totals[first].append(total)
    known = shop.value_of_kind(discount)
    for kind, values in totals.items():
        assert np.mean(values) == pytest.approx(known[kind], abs=0.01)
    assert known["good"] > 1.5 * known["lure"]


def test_a_lure_is_clicked_more_often_than_a_good(tmp_path: Path) -> None:
    shop.write_log(tmp_path / "log.csv", 5_000, 0)
    table = pa_csv.read_csv(tmp_path / "log.csv")
    table = table.filter(pc.equal(table["event"], "view"))
    items, counts = np.unique(table["item"].to_numpy(zero_copy_only=False).astype(str), return_counts=True)
    lure = np.char.find(items, "-lure-") >= 0
    assert counts[lure].mean() > 3 * counts[~lure].mean()
