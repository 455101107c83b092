from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from experiments.made_up import OPTIONS, cell
from valuerec.dataset import Dataset
from valuerec.errors import UsageError
from valuerec.experiments.cell import Cell, first_difference, refuse_other_options, slug_of

CELL = Cell(backbone="sasrec", method="vpq", seed=3, training={"epochs": 7}, method_options={"penalty": 5})


def finished(options: dict[str, Any], **names: Any) -> dict[str, Any]:
    return cell(**names, options=options)


def test_a_cells_configuration_is_what_it_names() -> None:
    config = dataclasses.replace(CELL, protocol="released").config("cpu")
    assert (config.method.penalty, config.epochs, config.seed, config.protocol) == (5, 7, 3, "released")
    assert (config.batch_size, config.learning_rate, config.backbone.width) == (256, 0.005, 64)


def test_names_are_for_files_and_people() -> None:
    other = dataclasses.replace(CELL, variant="penalty=5", protocol="released")
    assert (CELL.name, other.name) == ("sasrec-vpq (seed 3)", "sasrec-vpq (penalty=5, released, seed 3)")
    assert other.slug == slug_of(cell(seed=3, variant="penalty=5", protocol="released"))
    assert re.fullmatch(r"[a-z0-9_=-]+", other.slug)
    assert len({CELL.slug, other.slug, dataclasses.replace(CELL, seed=4).slug}) == 3


def test_a_recorded_cell_is_the_same_where_its_options_are(small: Dataset) -> None:
    asked = CELL.options(small)
    assert first_difference(asked, finished(asked)) is None
    assert "seed" not in asked["training"] and "device" not in asked["training"]


def test_an_option_of_later_counts_as_its_default(small: Dataset) -> None:
    asked = CELL.options(small)
    older = {**asked, "method": {name: value for name, value in asked["method"].items() if name != "warm_up"}}
    assert first_difference(asked, finished(older)) is None
    later = {**asked, "method": asked["method"] | {"warm_up": 100}}
    assert first_difference(later, finished(older)) == ("warm_up", 0, 100)


def test_other_options_are_refused_by_name(small: Dataset) -> None:
    recorded = finished(dataclasses.replace(CELL, method_options={}).options(small))
    with pytest.raises(UsageError, match=r"table1.json holds sasrec-vpq \(seed 3\) with penalty = 20.0, .* it is 5;"):
        refuse_other_options(CELL, small, recorded, "table1.json")


def test_a_baseline_has_its_own_options_alone(small: Dataset) -> None:
    asked = Cell(backbone="untrained", method="sknn", method_options={"neighbours": 50}).options(small)
    assert asked["method"]["neighbours"] == 50 and not asked["training"]
    recorded = finished(OPTIONS | asked, backbone="untrained", method="sknn")
    assert first_difference(asked, recorded) is None
