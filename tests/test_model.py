from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

import valuerec as vr
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError


@pytest.fixture(scope="module")
def runs(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        method.name: vr.train(
            small, out=folder / method.name, method=method, epochs=2, quiet=True, backbone=vr.SASRec(width=8)
        )
        for method in (vr.Supervised(), vr.VPQ(heads=4))
    }


def test_the_answer_is_the_exact_top_k_with_value_and_uncertainty(runs: dict[str, Path]) -> None:
    model = vr.load(runs["vpq"])
    (answer,) = model.recommend([["i003", "i004"]], k=7)
    network = model.network
    assert network.q_head is not None
    with torch.inference_mode():
        items_BL = torch.tensor([[3, 4] + [30] * 8], dtype=torch.int32)
        state_BD = network.state(items_BL, torch.tensor([2]))
        probability_N = network.item_head(state_BD).softmax(dim=1)[0]
        q_NK = network.q_head.weight_NKD @ state_BD[0] + network.q_head.bias_NK
    order = sorted(range(30), key=lambda item: (-probability_N[item].item(), item))[:7]
    assert [item.id for item in answer] == [f"i{item:03d}" for item in order]
    for item, index in zip(answer, order, strict=True):
        assert item.score == pytest.approx(probability_N[index].item())
        assert item.value == pytest.approx(q_NK[index].mean().item(), abs=1e-6)
        assert item.uncertainty == pytest.approx(q_NK[index].std(correction=0).item(), abs=1e-6)


def test_a_model_without_critic_has_no_value(runs: dict[str, Path]) -> None:
    (answer,) = vr.load(runs["supervised"]).recommend([["i003"]], k=2)
    assert [(item.value, item.uncertainty) for item in answer] == [(None, None)] * 2


def test_unknown_items_are_passed_over_and_counted(runs: dict[str, Path]) -> None:
    model = vr.load(runs["vpq"])
    with_unknown, without, unknown_only, empty = model.answers([["x", "i003", "y"], ["i003"], ["x"], []], k=5)
    assert with_unknown.items == without.items and with_unknown.unknown == 2
    assert unknown_only.items == empty.items and (unknown_only.unknown, empty.unknown) == (1, 0)


def test_only_the_last_window_counts_and_seen_items_can_be_left_out(runs: dict[str, Path]) -> None:
    model = vr.load(runs["vpq"])
    session = [f"i{item:03d}" for item in range(15)]
    long, short = model.recommend([session, session[-10:]], k=30)
    assert [item.id for item in long] == [item.id for item in short] and len(long) == 30
    (unseen,) = model.recommend([session], k=30, exclude_seen=True)
    assert [item.id for item in unseen] == [item.id for item in long if item.id not in session]


def test_a_session_in_a_batch_gets_what_it_gets_alone(runs: dict[str, Path]) -> None:
    model = vr.load(runs["vpq"])
    sessions = [[f"i{(7 * row) % 30:03d}"] * (row % 3) for row in range(600)]
    together = model.recommend(sessions, k=3)
    for row in (0, 1, 255, 256, 599):
        (alone,) = model.recommend([sessions[row]], k=3)
        assert [item.id for item in alone] == [item.id for item in together[row]]


@pytest.mark.parametrize("wrong", ["i003", [3], [None]])
def test_what_is_no_session_is_refused(runs: dict[str, Path], wrong: object) -> None:
    with pytest.raises(UsageError, match="not a sequence of item ids"):
        vr.load(runs["vpq"]).recommend([wrong], k=3)  # type: ignore[list-item]
    with pytest.raises(UsageError, match="k is 0"):
        vr.load(runs["vpq"]).recommend([["i003"]], k=0)
    with pytest.raises(UsageError, match=r"k is 2\.5; it must be a whole number"):
        vr.load(runs["vpq"]).recommend([["i003"]], k=2.5)  # type: ignore[arg-type]
    assert len(vr.load(runs["vpq"]).recommend([["i003"]], k=np.int64(2))[0]) == 2  # type: ignore[arg-type]


CONTENT = {
    "jsonl": '{"session": "a", "items": ["i003", "nix"]}\n\n["i004", 7]\n{"session": 5, "items": []}\n',
    "csv": "session,item,extra\na,i003,x\n3,i004,x\na,nix,x\n3,7,x\n5,,x\n",
    "tsv": "session\titem\na\ti003\na\tnix\n3\ti004\n3\t7\n5\t\n",
}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "list.parquet"])
@pytest.mark.parametrize("answer", ["jsonl", "csv", "parquet"])
def test_every_format_in_and_out_says_the_same(runs: dict[str, Path], tmp_path: Path, ending: str, answer: str) -> None:
    source, target = tmp_path / f"in.{ending}", tmp_path / "deep" / f"out.{answer}"
    if ending == "parquet":
        table = {"session": ["a", "a", "3", "3", "5"], "item": ["i003", "nix", "i004", "7", None]}
        pq.write_table(pa.table(table), source)
    elif ending == "list.parquet":
        pq.write_table(pa.table({"session": ["a", "3", "5"], "items": [["i003", "nix"], ["i004", "7"], []]}), source)
    else:
        source.write_text(CONTENT[ending])
    done = vr.recommend(runs["vpq"], source, out=target, k=4)
    assert done == (3, 12, 2, 1, 1)
    expected = vr.load(runs["vpq"]).recommend([["i003"], ["i004"], []], k=4)
    if answer == "jsonl":
        lines = [json.loads(line) for line in target.read_text().splitlines()]
        assert [(line["session"], line["unknown"]) for line in lines] == [("a", 1), ("3", 1), ("5", 0)]
        found = [[item["id"] for item in line["items"]] for line in lines]
    elif answer == "parquet":
        rows = pq.read_table(target).to_pylist()
        assert [(row["session"], row["unknown"]) for row in rows] == [("a", 1), ("3", 1), ("5", 0)]
        found = [[item["id"] for item in row["items"]] for row in rows]
    else:
        table = pa.csv.read_csv(target)
        assert table.column_names == ["session", "rank", "item", "score", "value", "uncertainty"]
        assert table["rank"].to_pylist() == [1, 2, 3, 4] * 3
        items = table["item"].to_pylist()
        found = [items[start : start + 4] for start in (0, 4, 8)]
    assert found == [[item.id for item in items] for items in expected]


BAD = {
    "empty.jsonl": "",
    "blank.jsonl": "\n\n",
    "broken.jsonl": '{"session": "a", "items": ["i003"]}\n{"session": \n',
    "shape.jsonl": '{"session": "a"}\n',
    "ids.jsonl": '{"session": "a", "items": [1.5]}\n',
    "deep.jsonl": "[" * 100_000,
    "header.csv": "session,item\n",
    "columns.csv": "visitor,sku\na,b\n",
    "fields.csv": "session,item\na\n",
    "session.csv": "session,item\n,b\n",
    "latin.csv": b"session,item\na,\xe4\n",
    "nul.jsonl": b"\x00\x00",
    "no.parquet": "PAR1",
    "what.xlsx": "x",
}


@pytest.mark.parametrize("name", [*BAD, "missing.jsonl"])
def test_bad_session_files_are_refused_in_a_sentence_and_nothing_is_written(
    runs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    if name in BAD:
        content = BAD[name]
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValuerecError) as caught:
        vr.recommend(runs["vpq"], source, out=target)
    assert str(source) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.glob("*out*")) == []


def test_an_answer_never_replaces_the_question(runs: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(CONTENT["jsonl"])
    with pytest.raises(UsageError, match="is the input"):
        vr.recommend(runs["vpq"], source, out=source)
    assert source.read_text() == CONTENT["jsonl"]


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_damaged_weights_are_noticed(small: Dataset, tmp_path: Path, how: str) -> None:
    run = vr.train(small, out=tmp_path / "run", epochs=1, quiet=True, backbone=vr.SASRec(width=8))
    (weights,) = run.glob("weights-*")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "remove":
        weights.unlink()
    else:
        weights.write_bytes(content if how == "flip" else content[:-1])
    with pytest.raises(ValuerecError, match="damaged"):
        vr.load(run)
    assert vr.info(run)["damaged"] == [weights.name]
