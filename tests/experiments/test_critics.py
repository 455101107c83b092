"""What the critics of a table hold: each column is its own, and the mean reward is the log's."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.made_up import OPTIONS, cell, diverged
from valuerec.experiments.critics import critics_sheet, logged_reward

TRAIN = {"splits": {"train": {"events": 400, "clicks": 300, "purchases": 100}}}


def critic(method: str, seed: int, means: dict[str, float], heads: int = 15, **changes: Any) -> dict[str, Any]:
    histograms = {name: {"low": 0.0, "high": 2.0, "mean": mean, "counts": [1, 2]} for name, mean in means.items()}
    options = OPTIONS | {"method": {"heads": heads}}
    return cell("sasrec", method, seed, histograms=histograms, options=options, **changes)


def test_each_column_is_the_mean_of_its_own_over_the_seeds() -> None:
    cells = [
        critic("vpq", 0, {"value": 0.2, "spread": 1.1, "weight": 0.04}, outside=0.30, floored=0.10),
        critic("vpq", 1, {"value": 0.4, "spread": 1.3, "weight": 0.06}, outside=0.50, floored=0.20),
        critic("rem", 0, {"value": 1.5, "spread": 0.7}, outside=0.6, floored=0.0),
        critic("sac", 0, {"value": 2.5, "spread": 0.0}, heads=1, outside=0.8, floored=None),
        critic("vpq", 0, {"value": 0.1, "spread": 0.9, "weight": 0.05}, outside=0.2, floored=0.3, protocol="released"),
        cell("caser", "supervised"),
        diverged(backbone="caser", method="vpq"),
    ]
    sheet = critics_sheet(cells)
    assert sheet is not None
    assert sheet.head == ("row", "Q(s,a)", "SD over heads", "W", "Q outside", "floored", "seeds")
    assert sheet.groups == [
        [
            ["sasrec-sac", "2.500", "–", "–", "80.00 %", "–", "1"],
            ["sasrec-rem", "1.500", "0.700", "–", "60.00 %", "0.00 %", "1"],
            ["sasrec-vpq", "0.300 ± 0.141", "1.200 ± 0.141", "0.050 ± 0.014", "40.00 %", "15.00 %", "2"],
            ["sasrec-vpq, released", "0.100", "0.900", "0.050", "20.00 %", "30.00 %", "1"],
        ]
    ]
    assert critics_sheet([cell("caser", "supervised")]) is None


def test_the_mean_reward_is_that_of_the_training_split() -> None:
    assert logged_reward(TRAIN, [cell()]) == [
        "The mean reward of a logged action of the training split is 0.400."  # (300 · .2 + 100 · 1) / 400
    ]


@pytest.mark.parametrize(
    ("dataset", "cells"),
    [
        ({}, [cell()]),
        ({"splits": {"train": {"events": 500, "clicks": 300, "purchases": 100}}}, [cell()]),  # 100 of another kind
        (TRAIN, [cell(), cell(options=OPTIONS | {"rewards": {"click": 0.0, "purchase": 1.0}})]),
        (TRAIN, [cell(options=OPTIONS | {"training": {"reward_transform": "linear"}})]),
        (TRAIN, []),
    ],
)
def test_where_rewards_are_not_known_or_not_the_same_nothing_is_said(
    dataset: dict[str, Any], cells: list[dict[str, Any]]
) -> None:
    assert logged_reward(dataset, cells) == []
