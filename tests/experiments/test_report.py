"""The page and RESULTS.md's sections, made of cells that nobody trained."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.made_up import OPTIONS, cell, diverged, write_results
from valuerec.errors import UsageError
from valuerec.experiments import figure2
from valuerec.experiments.contents import outcome, sections_of
from valuerec.experiments.figure1 import figure1
from valuerec.experiments.pictures import outline_of
from valuerec.experiments.plotting import save
from valuerec.experiments.report import require_report, write_report
from valuerec.experiments.results import Results
from valuerec.experiments.tuning import SEED, grids


class Page(HTMLParser):
    """What a page asks for and shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[name] or "" for name in ("src", "href", "srcset", "action") if name in given]
        if tag == "img":
            self.images.append(given)
        if given.get("id"):
            self.ids.append(given["id"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results") / "made-up"
    table = [cell(backbone, method, seed) for backbone in ("caser", "sasrec") for method in ("supervised", "vpq")
             for seed in range(2)]  # fmt: skip
    table += [diverged(backbone="caser", method="uwac"), cell("sasrec", "sarsa"), cell("untrained", "sknn", curve=[])]
    table += [cell(method="vpq", protocol="released")]
    figure = [cell(variant=way, seed=seed) for way in figure2.WAYS for seed in range(2)]
    tuning = [
        cell(method="vpq", seed=SEED, variant=f"penalty={value}", score=0.1 * place)
        for place, value in enumerate(grids()["vpq"].values)
    ]
    tuning.append(cell(method="vpq", seed=SEED, variant="penalty=0.125", score=0.9))  # of an earlier grid
    made = write_results(folder, table1=table, figure2=figure, tuning=tuning)
    save(figure2.draw(figure), folder / "figure2")
    return made


@pytest.fixture(scope="module")
def page(results: Results) -> Page:
    return Page(write_report(results))


def test_the_page_asks_nothing_of_anybody(page: Page) -> None:
    assert all(re.match(r"(data:image/png;base64,|#part-\d+$)", address) for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?:", page.source)
    assert {address[1:] for address in page.addresses if address.startswith("#")} == set(page.ids)


def test_every_image_says_what_it_is(page: Page) -> None:
    assert len(page.images) >= 1 + 4 + 6  # the figure, curves a backbone with the controls' and released, histograms
    assert all(image["alt"] for image in page.images)


def test_the_page_shows_what_there_is(page: Page) -> None:
    for shown in (
        "caser-vpq", "sasrec-sarsa", "0 (1 diverged)", "Training diverged before step 50", "Test, protocol released",
        "Learning curves", "Values, spreads and weights", "learning_rate", "0.005", "penalty 20.0", "Q-critic", "sknn",
    ):  # fmt: skip
        assert shown in page.text, shown
    assert "nan" not in page.text.lower() and "None" not in page.text


def test_the_page_suits_phones_and_the_dark(page: Page) -> None:
    assert 'name="viewport"' in page.source and "prefers-color-scheme: dark" in page.source
    assert page.tags.count("table") == page.source.count('class="wide')  # each scrolls within itself


def test_the_weights_outline_has_each_bins_share_on_the_logarithmic_axis() -> None:
    histogram = {"low": 0.5, "high": 2.0, "mean": 1.0, "counts": [6, 1, 3]}
    one = cell(histograms={"spread": histogram, "weight": histogram}, options=OPTIONS | {"method": {"penalty": 2.0}})
    height_B, edge_B = outline_of(one, "spread")
    assert height_B.tolist() == pytest.approx([1, 1 / 6, 1 / 2]) and edge_B.tolist() == pytest.approx([0.5, 1, 1.5, 2])
    height_B, edge_B = outline_of(one, "weight")  # W = 1 / (1 + 2 σ), which falls: the last bin comes first
    assert edge_B.tolist() == pytest.approx([1 / 5, 1 / 4, 1 / 3, 1 / 2]) and max(height_B) == 1
    areas = [height * math.log(high / low) for height, low, high in zip(height_B, edge_B[:-1], edge_B[1:], strict=True)]
    assert [area / sum(areas) for area in areas] == pytest.approx([0.3, 0.1, 0.6])


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    results = write_results(tmp_path, table1=[cell(commit="<script>alert(1)</script>")])
    assert "<script>" not in write_report(results).read_text()


def test_the_chosen_hyper_parameter_is_told(results: Results) -> None:
    (section,) = (section for section in sections_of(results) if section.title == "Hyper-parameters")
    ((row,),) = section.sheets[0].groups
    assert row[:2] == ["sasrec-vpq", "penalty"] and row[-2:] == [str(grids()["vpq"].values[-1]), "0.125: 0.9000"]
    assert "at the edge of what was tried, so that a value beyond it might do better, for sasrec-vpq" in section.text[1]


@pytest.mark.parametrize(
    "scores",
    [
        dict(zip(grids()["vpq"].values, (0.1, 0.3, 0.2, 0.1), strict=True)),
        dict(zip(grids()["vpq"].values, (0.3, 0.1, 0.2, 0.1), strict=True)) | {1: 0.2},  # 1 is of an earlier grid
    ],
)
def test_a_best_value_inside_what_was_tried_is_told_too(tmp_path: Path, scores: dict[float, float]) -> None:
    tuning = [cell(method="vpq", seed=SEED, variant=f"penalty={value}", score=score) for value, score in scores.items()]
    (section,) = (
        section for section in sections_of(write_results(tmp_path, tuning=tuning)) if section.title.startswith("Hyper")
    )
    assert section.text[1] == "No best value lies at the edge of what was tried."


def test_it_is_told_how_often_the_limit_ended_a_run(tmp_path: Path) -> None:
    most = 20 * 2  # epochs of 400 events in batches of 256
    table = [cell(steps=most, best_step=most), cell(seed=1, steps=most, best_step=most - 2), cell(seed=2, steps=30),
             cell("untrained", "sknn", steps=None, best_step=None), diverged(method="rem")]  # fmt: skip
    trials = [cell(method="vpq", seed=SEED, variant="penalty=20", steps=most, best_step=10)]
    few = OPTIONS | {"training": OPTIONS["training"] | {"max_steps": 7}}
    table.append(cell(method="sac", protocol="released", options=few, steps=7, best_step=7))
    results = write_results(tmp_path, table1=table, tuning=trials)
    (section,) = (each for each in sections_of(results) if each.title == "The limit of steps")
    assert section.text[0].startswith("Of 5 runs, 4 used all the steps they had, and 2 had their best")
    assert section.sheets[0].groups == [
        [
            ["sasrec-vpq", "ours", "trial", "1", "1", "0"],
            ["sasrec-vpq", "ours", "table", "3", "2", "1"],
            ["sasrec-sac", "released", "table", "1", "1", "1"],
        ]
    ]


def test_each_run_tells_what_the_floor_cut(tmp_path: Path) -> None:
    older = {name: value for name, value in cell(seed=1).items() if name != "floored"}
    table = [cell(), older, cell(method="supervised")]
    (section,) = (each for each in sections_of(write_results(tmp_path, table1=table)) if each.title == "Every run")
    (sheet,) = section.sheets
    assert [row[sheet.head.index("floored")] for row in sheet.groups[0]] == ["2.00 %", "–", "–"]
    assert "cut at zero" in section.text[0]


def test_published_numbers_are_shown_for_the_published_dataset_alone(tmp_path: Path, results: Results) -> None:
    assert not any(section.title == "Published numbers" for section in sections_of(results))
    published = write_results(tmp_path, table1=[cell()])
    assert published.dataset is not None
    published.dataset["counts"] = {"sessions": 200_000, "items": 26_702, "clicks": 1_110_965, "purchases": 43_946}
    assert any(section.title == "Published numbers" for section in sections_of(published))


def test_a_page_of_figure_1_alone(tmp_path: Path) -> None:
    figure1(tmp_path)
    page = Page(write_report(Results(tmp_path)))
    assert len(page.images) == 1 and "Figure 1" in page.text
    sheets, content = outcome(Results(tmp_path), "figure1")
    assert sheets == [] and content["predictions"]


def test_without_the_extra_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> None:
        if name == "jinja2":
            raise ImportError(name=name)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(UsageError, match=r"need jinja2; install it with: pip install 'valuerec\[report\]'\."):
        require_report()
