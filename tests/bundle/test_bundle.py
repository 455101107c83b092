"""A bundle is the run's model, whole, and nothing in it is believed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import valuerec as vr
from mutations import digested
from valuerec import cli
from valuerec.backbones import BACKBONES
from valuerec.bundle import CARD, CONFIG, ENCODER, METRICS, VOCABULARY, WEIGHTS
from valuerec.dataset import Dataset
from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import write_manifest
from valuerec.serving.versions import Versions
from valuerec.tensors import save_tensors
from valuerec.training.run import Run

SESSIONS = [["i003", "i004"], ["nix"], [], [f"i{item:03d}" for item in range(25)]]
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 64, "quiet": True}


def trained(data: Dataset, folder: Path, **options: Any) -> Path:
    return vr.train(
        data, out=folder / "run", **({"backbone": vr.SASRec(width=8), "method": vr.VPQ(heads=3)} | SMALL | options)
    )


@pytest.fixture(scope="module")
def run(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(small, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    return vr.export(run, out=run.parent / "bundle", onnx=False)


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def test_whom_the_umask_lets_read_reads_run_and_bundle(run: Path, bundle: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for folder in (run, bundle):  # in a container the service is another user
        assert folder.stat().st_mode & 0o777 == 0o755
        files = [file for file in folder.iterdir() if file.is_file()]
        assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}


def sign(folder: Path) -> None:
    """Make sizes, hashes and digest of a bundle right again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_bytes(digested(manifest))


def change(folder: Path, name: str, **changes: Any) -> None:
    """Change fields of a JSON file, named with __ between levels, and sign the bundle."""
    content = json.loads((folder / name).read_text())
    for place, value in changes.items():
        *outer, last = place.split("__")
        part = content
        for each in outer:
            part = part[each]
        part[last] = value
    (folder / name).write_text(json.dumps(content))
    if name == "manifest.json":
        (folder / name).write_bytes(digested(content))
    else:
        sign(folder)


@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize(
    "method",
    [vr.Supervised(), vr.VPQ(heads=3), vr.VPQ(heads=2, ensemble="factored", recommend="values"), vr.CQL(critic="off")],
    ids=["supervised", "vpq", "factored by values", "critic off"],
)
def test_a_bundle_recommends_what_its_run_does_bit_for_bit(
    small: Dataset, tmp_path: Path, backbone: str, method: Any
) -> None:
    run = trained(small, tmp_path, backbone=BACKBONES[backbone](width=8), method=method, max_steps=3)
    bundle = vr.export(run, out=tmp_path / "bundle", onnx=False)
    there, here = vr.load(run), vr.load(bundle)
    assert here.recommend(SESSIONS, k=30) == there.recommend(SESSIONS, k=30)
    assert here.item_ids == there.item_ids and here.recommends_by == there.recommends_by
    for (name, mine), (other, theirs) in zip(
        here.network.state_dict().items(), there.network.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(mine, theirs)


def test_a_bundle_holds_what_it_should_and_not_where_it_was_made(run: Path, bundle: Path, small: Dataset) -> None:
    assert {path.name for path in bundle.iterdir()} == {"manifest.json", WEIGHTS, CONFIG, VOCABULARY, METRICS, CARD}
    assert json.loads((bundle / VOCABULARY).read_text()) == [f"i{item:03d}" for item in range(30)]
    assert (bundle / METRICS).read_bytes() == (run / METRICS).read_bytes()
    config = json.loads((bundle / CONFIG).read_text())
    assert config["dataset"] == {"fingerprint": small.fingerprint, "items": 30}
    assert not any(str(run.parent).encode() in path.read_bytes() for path in bundle.iterdir())
    card = (bundle / CARD).read_text()
    for said in (small.fingerprint, "# sasrec by vpq", "click 0.2, purchase 1.0", "heads 3", "## Limits", "vr.load("):
        assert said in card
    metrics = json.loads((run / METRICS).read_text())
    assert f"| {metrics['test']['click']['hr@20']:.4f} |" in card


def test_info_and_evaluate_and_recommend_take_bundles(run: Path, bundle: Path, small: Dataset, tmp_path: Path) -> None:
    told = vr.info(bundle)
    assert told["kind"] == "bundle" and told["damaged"] == [] and told["metrics"] == vr.info(run)["metrics"]
    assert vr.evaluate(bundle, data=small.path) == vr.evaluate(run)
    with pytest.raises(UsageError, match="does not say where its dataset is"):
        vr.evaluate(bundle)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(session) + "\n" for session in SESSIONS))
    for folder in (run, bundle):
        vr.recommend(folder, tmp_path / "in.jsonl", out=tmp_path / f"{folder.name}.jsonl")
    assert (tmp_path / "run.jsonl").read_bytes() == (tmp_path / "bundle.jsonl").read_bytes()


def test_the_command_says_what_it_wrote(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "bundle"
    assert cli.run(["export", str(run), "--out", str(out), "--no-onnx"]) == 0
    said = capsys.readouterr().out
    assert "No ONNX was written: not asked for." in said and f"written to {out}" in said
    assert cli.run(["info", str(out)]) == 0
    assert "all as the manifest says" in capsys.readouterr().out
    assert cli.run(["export", str(run), "--out", str(out)]) == 2
    assert "already in use" in capsys.readouterr().err
    assert cli.run(["export", str(run), "--out", str(tmp_path / "more"), "--no-onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "bundle"


def test_without_the_libraries_onnx_is_left_out_in_a_sentence_or_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valuerec.bundle.onnx._NEEDED", ("onnx", "no_such_library"))
    bundle = vr.export(run, out=tmp_path / "bundle")
    assert "no_such_library: pip install 'valuerec[onnx]'." in vr.info(bundle)["onnx"]["why"]
    assert "ONNX: no ONNX without" in (bundle / CARD).read_text()
    with pytest.raises(ValuerecError, match=r"bundle was not written: no ONNX without .*no_such_library"):
        vr.export(run, out=tmp_path / "other", onnx=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


class Own(nn.Module):
    """Somebody's own backbone, with a table that is no float."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items + 1, 8)
        self.register_buffer("reversed", torch.arange(n_items, -1, -1))

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        last_B1 = items_BL.long().gather(1, length_B.long().unsqueeze(1) - 1)
        state: Tensor = self.item(self.reversed[last_B1.squeeze(1)])
        return state


def test_somebodys_own_backbone_is_named_and_must_be_given(small: Dataset, tmp_path: Path) -> None:
    run = trained(small, tmp_path, backbone=Own)
    bundle = vr.export(run, out=tmp_path / "bundle", onnx=False, backbone=Own)
    assert vr.load(bundle, backbone=Own).recommend(SESSIONS) == vr.load(run, backbone=Own).recommend(SESSIONS)
    assert "backbone=TheBackboneItWasTrainedWith" in (bundle / CARD).read_text()
    with pytest.raises(
        UsageError, match="Own, not one of valuerec's, whose code only Python can give: backbone=Own in"
    ):
        vr.load(bundle)
    with pytest.raises(UsageError, match="Own, not one of valuerec's"):
        vr.export(run, out=tmp_path / "other", onnx=False)
    with pytest.raises(ValuerecError, match="does not hold this model's weights"):
        vr.load(bundle, backbone=vr.GRU4Rec(width=8))


def test_a_backbone_that_was_made_of_one_of_ours_is_somebodys_own_too(small: Dataset, tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Wider(vr.SASRec):
        more: int = 2

        def __call__(self, n_items: int, window: int) -> Any:
            return vr.SASRec(width=self.width + self.more)(n_items, window)

    run = trained(small, tmp_path, backbone=Wider(width=6))
    bundle = vr.export(run, out=tmp_path / "bundle", onnx=False, backbone=Wider(width=6))
    model = vr.load(bundle, backbone=Wider(width=6))
    assert model.recommend(SESSIONS) == vr.load(run, backbone=Wider(width=6)).recommend(SESSIONS)
    with pytest.raises(ValuerecError, match="the backbone sasrec has no option 'more'"):
        vr.load(bundle)


def test_a_run_without_weights_or_with_infinite_ones_is_not_exported(run: Path, tmp_path: Path) -> None:
    spoilt = Path(shutil.copytree(run, tmp_path / "spoilt"))
    network = vr.load(run).network
    network.item_head.bias_N.data[3] = float("nan")
    opened = Run(spoilt)
    opened.save_weights(network, 9)
    with pytest.raises(ValuerecError, match=r"NaN or infinity in its weights \(item_head.bias_N\)"):
        vr.export(spoilt, out=tmp_path / "bundle")
    write_manifest(spoilt, "run", 1, {"status": "running", "weights": None})
    with pytest.raises(ValuerecError, match="no weights yet"):
        vr.export(spoilt, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_that_can_not_be_finished_is_not_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("valuerec.bundle.writing.write_vocabulary", full)
    with pytest.raises(ValuerecError, match="no space is left"):
        vr.export(run, out=tmp_path / "bundle", onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused_before_anything_else(copy: Path) -> None:
    change(copy, "manifest.json", schema_version=2, files={"another.format": {}})
    for read in (vr.load, vr.info):
        with pytest.raises(ValuerecError, match="schema version 2, this valuerec reads up to 1; upgrade valuerec"):
            read(copy)


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "a terabyte wide": ({"backbone__width": 1 << 36}, "less than or equal to 65536"),
    "wide": ({"backbone__width": 65536}, "does not hold this model's weights"),
    "a million heads": ({"method__heads": 1_000_000}, "less than or equal to 4096"),
    "many heads": ({"method__heads": 4096}, "does not hold this model's weights"),
    "all items there are": ({"dataset__items": (1 << 31) - 2}, "does not hold this model's weights"),
    "more items": ({"dataset__items": 1 << 40}, "less than or equal to 2147483646"),
    "an endless window": ({"training__window": 1 << 40}, "less than or equal to 255"),
    "heads in words": ({"method__heads": "3"}, r"method\.heads: Input should be a valid integer"),
    "true for a number": ({"backbone__width": True}, r"backbone\.width: Input should be a valid integer"),
    "a fraction": ({"backbone__width": 8.0}, r"backbone\.width: Input should be a valid integer"),
    "another backbone": ({"backbone__name": "caser"}, "does not hold this model's weights"),
    "no backbone": ({"backbone__name": "os.system"}, "no backbone named 'os.system'"),
    "no method": ({"method__name": "__import__"}, "no method named '__import__'"),
    "an unknown option": ({"method__hook": "x"}, "the method vpq has no option 'hook'"),
    "a bad value": ({"method__discount": 2.0}, "VPQ's discount is 2.0"),
    "not even a part": ({"training": []}, "field training: Input should be"),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_a_configuration_is_not_believed(copy: Path, lie: str) -> None:
    changes, says = LIES[lie]
    change(copy, CONFIG, **changes)
    with pytest.raises(ValuerecError, match=says) as caught:
        vr.load(copy)
    assert CONFIG in str(caught.value) or WEIGHTS in str(caught.value)


def test_weights_are_what_the_configuration_says_and_finite(copy: Path) -> None:
    weights = dict(vr.load(copy).network.state_dict())
    wrong = {
        "float64": weights | {"item_head.bias_N": weights["item_head.bias_N"].double()},
        r"float32\[31\]": weights | {"item_head.bias_N": torch.zeros(31)},
        "too many": weights | {"more": torch.zeros(1)},
        "has no item_head.bias_N": {name: value for name, value in weights.items() if name != "item_head.bias_N"},
        "NaN or infinity": weights | {"item_head.bias_N": torch.full((30,), float("-inf"))},
    }
    for says, tensors in wrong.items():
        save_tensors(copy / WEIGHTS, tensors)
        sign(copy)
        with pytest.raises(ValuerecError, match=says):
            vr.load(copy)


def test_no_file_but_a_bundles_own_is_named(copy: Path) -> None:
    entry = json.loads((copy / "manifest.json").read_text())["files"][CARD]
    for files in ({"../outside": entry}, {"own.py": entry}, {}):
        change(copy, "manifest.json", files=files)
        with pytest.raises(ValuerecError, match=r"names a file outside|names the file 'own.py'|does not name the file"):
            vr.load(copy)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, METRICS, CARD, VOCABULARY])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_damage_and_not_waited_for(copy: Path, name: str, kind: str) -> None:
    (copy / name).unlink()
    if kind == "pipe":
        os.mkfifo(copy / name)
    elif kind == "folder":
        (copy / name).mkdir()
    else:
        try:
            os.mknod(copy / name, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which never ends
        except PermissionError:
            pytest.skip("only root makes devices")
    with pytest.raises(ValuerecError, match=f"is damaged: {name} differs"):
        vr.load(copy)
    told = vr.info(copy)
    assert told["damaged"] == [name]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_manifest_that_is_no_file_is_not_waited_for(copy: Path, kind: str) -> None:
    (copy / "manifest.json").unlink()
    os.mkfifo(copy / "manifest.json") if kind == "pipe" else (copy / "manifest.json").mkdir()
    for read in (vr.load, vr.info):
        with pytest.raises(UsageError, match=r"it has no manifest\.json"):
            read(copy)


@pytest.mark.parametrize("name", ["manifest.json", WEIGHTS, CONFIG, METRICS, CARD, VOCABULARY])
def test_links_are_followed_to_a_bundle_and_not_out_of_it(copy: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "live").symlink_to(copy)
    assert vr.load(tmp_path / "live").recommend(SESSIONS)
    (copy / name).rename(tmp_path / "outside")
    for target in (tmp_path / "outside", copy / name):  # a whole file; itself
        (copy / name).unlink(missing_ok=True)
        (copy / name).symlink_to(target)
        for read in (vr.load, vr.info):
            if name == "manifest.json" and target == copy / name:
                continue  # is none
            with pytest.raises(ValuerecError, match=rf"{re.escape(name)} is a link: a bundle holds its files itself"):
                read(copy)


FORGED_METRICS: dict[str, Any] = {
    "a list": [1],
    "a text": "x",
    "a number": 5,
    "null": None,
    "no split": {"test": None},
    "a list for a split": {"test": []},
    "an empty split": {"test": {}},
    "a text for a figure": {"test": {"purchase": {"hr@5": "x"}}},
    "a list for figures": {"test": {"purchase": []}},
    "no figures": {"test": {"purchase": {}, "click": {}}},
    "other figures": {"test": {"purchase": {"hr@5": 0.5}, "click": {"ndcg@5": 0.5}}},
    "a share of two": {"test": {"purchase": {"hr@5": 2.0}}},
    "no bounds": {"outside": {"share": 0.5, "bounds": []}},
    "bounds in words": {"outside": {"share": 0.5, "bounds": ["a", "b"]}},
    "no step": {"selection": {"by": "x"}},
    "a list to select": {"selection": []},
    "deep": {"note": functools.reduce(lambda inner, _: [inner], range(500), 0)},
}


@pytest.mark.parametrize("lie", list(FORGED_METRICS))
def test_metrics_are_not_believed(copy: Path, lie: str, capsys: pytest.CaptureFixture[str]) -> None:
    forged = FORGED_METRICS[lie]
    whole = json.loads((copy / METRICS).read_text())
    (copy / METRICS).write_text(json.dumps(whole | forged if isinstance(forged, dict) else forged))
    sign(copy)
    for mode in ([], ["--json"]):
        assert cli.run(["info", str(copy), *mode]) == 1
        told = capsys.readouterr().err
        assert METRICS in told and told.count("\n") == 1 and "Unexpected" not in told
    assert vr.load(copy).recommend(SESSIONS)  # which does not read them
    with pytest.raises(ValuerecError, match=METRICS):
        Versions(copy, 1.0, lambda *_: None)


def test_a_field_of_several_lines_is_named_in_one(copy: Path) -> None:
    change(copy, CONFIG, rewards={"\nclick\r\u2028": 1.0})
    with pytest.raises(ValuerecError, match=r"config\.json, field rewards\.␊click␍�\.\[key\]: [^\n]*\.$"):
        vr.load(copy)


@pytest.mark.parametrize("rewards", [[1], {"click": "x"}, {"click": None}, {"View": 1.0}])
def test_rewards_are_not_believed(copy: Path, rewards: Any) -> None:
    change(copy, CONFIG, rewards=rewards)
    with pytest.raises(ValuerecError, match=r"config\.json, field rewards"):
        vr.load(copy)


@pytest.mark.parametrize("name", ["manifest.json", CONFIG, METRICS])
def test_a_name_that_stands_twice_is_refused(copy: Path, name: str) -> None:
    text = (copy / name).read_text()
    key = next(iter(json.loads(text)))
    (copy / name).write_text(text.replace("{", f'{{"{key}": 1, ', 1))
    if name != "manifest.json":
        sign(copy)
    with pytest.raises(ValuerecError, match=r"is not readable JSON \(a name stands twice\)"):
        vr.info(copy)


STEERING = "\x1b]0;pwned\x07\x1b[2J\x7f\x9b31m\u202eevil\u2066\r"


def test_what_is_printed_of_a_bundle_does_not_steer_the_terminal(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copy, "manifest.json", valuerec=STEERING, onnx={"file": None, "why": STEERING, STEERING: 1})
    change(copy, CONFIG, **{f"selection{STEERING}": STEERING})
    for mode in ([], ["--json"]):
        assert cli.run(["info", str(copy), *mode]) == 0
        assert not re.search(
            r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", told := capsys.readouterr().out
        )
        assert "pwned" in told and "evil" in told
    assert json.loads(told)["valuerec"] == STEERING  # for a machine it is what it is


def test_errors_take_one_line_and_do_not_steer_the_terminal(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = copy.rename(copy.with_name("a\n\x1b[2J\u202eb"))
    for kind in ("\x1b]0;pwned\x07", "bundle\n\n"):
        (hostile / "manifest.json").write_text(json.dumps({"kind": kind, "schema_version": 1, "files": {}}))
        assert cli.run(["info", str(hostile)]) == 2
        told = capsys.readouterr().err
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", told.removesuffix("\n")) is None


def test_large_files_are_not_read(copy: Path) -> None:
    for name, says in ((CONFIG, "more than 262144 bytes"), (METRICS, "more than 1048576 bytes")):
        with (copy / name).open("r+b") as file:
            file.truncate(1 << 40)  # a terabyte of nothing, on any file system with holes
        change(copy, "manifest.json", **{"files": fake_sizes(copy)})
        with pytest.raises(ValuerecError, match=says):
            vr.load(copy)
        with (copy / name).open("r+b") as file:
            file.truncate(2)
    with (copy / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValuerecError, match="has more than the 1048576 bytes"):
        vr.load(copy)


def fake_sizes(folder: Path) -> dict[str, Any]:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": "0" * 64} for name in files}


def test_an_encoder_that_is_named_must_be_whole(copy: Path) -> None:
    (copy / ENCODER).write_bytes(b"graph")
    content = json.loads((copy / "manifest.json").read_text())
    change(copy, "manifest.json", files=content["files"] | {ENCODER: {"bytes": 5, "sha256": "0" * 64}})
    with pytest.raises(ValuerecError, match=r"encoder\.onnx differs"):
        vr.load(copy)
    sign(copy)
    assert vr.load(copy).recommend(SESSIONS)
