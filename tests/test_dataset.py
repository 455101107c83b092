from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from valuerec.dataset import Dataset, Rewards
from valuerec.errors import UsageError, ValuerecError
from worlds import write_dataset

N = 9  # padding


@pytest.fixture
def by_hand(tmp_path: Path) -> Dataset:
    splits = {
        "train": [[(1, "c"), (2, "p"), (3, "c"), (4, "c")], [(5, "c")]],
        "validation": [[(6, "p")]],
        "test": [[(7, "c")]],
    }
    return write_dataset(tmp_path / "data", splits, N)


def test_the_transitions_of_a_small_log_by_hand(by_hand: Dataset) -> None:
    rows = by_hand.transitions(np.arange(7), window=3)
    assert rows.state_BL.tolist() == [[N, N, N], [1, N, N], [1, 2, N], [1, 2, 3], [N, N, N], [N, N, N], [N, N, N]]
    assert rows.length_B.tolist() == [1, 1, 2, 3, 1, 1, 1]
    assert rows.action_B.tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(rows.reward_B, [0.2, 1.0, 0.2, 0.2, 0.2, 1.0, 0.2])
    assert rows.next_state_BL.tolist() == [[1, N, N], [1, 2, N], [1, 2, 3], [2, 3, 4], [5, N, N], [6, N, N], [7, N, N]]
    assert rows.next_length_B.tolist() == [1, 2, 3, 3, 1, 1, 1]
    assert rows.done_B.tolist() == [False, False, False, True, True, True, True]


def test_what_came_next_and_what_it_all_came_to_by_hand(by_hand: Dataset) -> None:
    rows = by_hand.transitions(np.arange(7), window=3, discount=0.5)
    assert rows.next_action_B.tolist() == [2, 3, 4, 4, 5, 6, 7]  # on a session's last event its own item
    np.testing.assert_allclose(
        rows.return_B,
        [0.2 + 0.5 * 1.0 + 0.25 * 0.2 + 0.125 * 0.2, 1.0 + 0.1 + 0.05, 0.3, 0.2, 0.2, 1.0, 0.2],
        rtol=1e-6,
    )
    assert len(by_hand.transitions(np.arange(7), window=3).return_B) == 0


def test_splits_are_ranges_of_whole_sessions(by_hand: Dataset) -> None:
    assert [by_hand.events_of(split) for split in ("train", "validation", "test")] == [
        range(5),
        range(5, 6),
        range(6, 7),
    ]
    assert by_hand.events_of("held-out") == range(5, 7)


def test_the_session_of_any_event(by_hand: Dataset) -> None:
    assert by_hand.session_of(np.array([6, 0, 3, 4, 5])).tolist() == [3, 0, 0, 1, 2]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sessions=st.lists(
        st.lists(st.tuples(st.integers(0, N - 1), st.sampled_from("cp")), min_size=1, max_size=7),
        min_size=1,
        max_size=6,
    ),
    window=st.integers(1, 6),
    discount=st.sampled_from([0.0, 0.5, 0.999]),
    rewards=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    data=st.data(),
)
def test_index_arithmetic_equals_slicing_lists(
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[list[tuple[int, str]]],
    window: int,
    discount: float,
    rewards: tuple[float, float],
    data: st.DataObject,
) -> None:
    dataset = write_dataset(tmp_path_factory.mktemp("h") / "data", {"train": sessions}, N)
    expected, returns = [], []
    for session in sessions:
        items = [item for item, _ in session]
        for place in range(len(items)):
            state, following = items[:place][-window:], items[: place + 1][-window:]
            pad = [N] * window
            expected.append((
                (state + pad)[:window], max(1, len(state)), items[place], (following + pad)[:window], len(following),
                place == len(items) - 1, items[min(place + 1, len(items) - 1)],
            ))  # fmt: skip
            total = 0.0
            for _, kind in reversed(session[place:]):
                total = rewards[kind == "p"] + discount * total
            returns.append(total)
    number_B = np.array(data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=9)))
    rows = dataset.transitions(number_B, window, Rewards(*rewards), discount)
    columns = (
        rows.state_BL, rows.length_B, rows.action_B, rows.next_state_BL, rows.next_length_B, rows.done_B,
        rows.next_action_B,
    )  # fmt: skip
    np.testing.assert_allclose(rows.return_B, np.array(returns)[number_B], rtol=1e-6, atol=1e-6)
    for place, number in enumerate(number_B):
        assert tuple(column[place].tolist() for column in columns) == expected[number]


def test_a_session_longer_than_a_byte_counts(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", {"train": [[(place % N, "c") for place in range(700)]]}, N)
    rows = dataset.transitions(np.array([0, 254, 255, 256, 257, 699]), window=4)
    assert rows.state_BL[1:].tolist() == [
        [(place - back) % N for back in (4, 3, 2, 1)] for place in (254, 255, 256, 257, 699)
    ]
    assert rows.done_B.tolist() == [False] * 5 + [True]


def test_rewards_are_the_users(by_hand: Dataset) -> None:
    rows = by_hand.transitions(np.arange(2), 3, Rewards(click=0.5, purchase=3.0))
    assert rows.reward_B.tolist() == [0.5, 3.0]
    with pytest.raises(UsageError, match="reward of a click"):
        Rewards(click=float("nan"))


def test_every_kind_of_event_has_its_reward(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", {"train": [[(1, "c"), (2, "p"), (3, "c"), (4, "c")]]}, N)
    assert data.kinds == ("click", "purchase")
    data = with_carts(data)
    assert data.kinds == ("click", "purchase", "cart")
    rewards = Rewards(click=0.25, purchase=2.0, others={"cart": 0.5})
    rows = data.transitions(np.arange(4), 3, rewards, 0.5)
    assert rows.reward_B.tolist() == [0.25, 2.0, 0.5, 0.25]
    assert rows.return_B.tolist() == [0.25 + 1.0 + 0.125 + 0.03125, 2.0 + 0.25 + 0.0625, 0.5 + 0.125, 0.25]
    without = data.transitions(np.arange(4), 3, None, 0.5)
    assert len(without.reward_B) == len(without.return_B) == 0
    with pytest.raises(UsageError, match=r"events of the kind cart, .* --reward-others cart=0\.5"):
        data.transitions(np.arange(4), 3)
    with pytest.raises(UsageError, match=r"given for wish, and the kinds of events of .* are click, purchase, cart;"):
        data.transitions(np.arange(4), 3, Rewards(others={"cart": 0.5, "wish": 1.0}))
    with pytest.raises(UsageError, match="reward of a cart is inf"):
        Rewards(others={"cart": float("inf")})
    with pytest.raises(UsageError, match="reward of a click has an option of its own"):
        Rewards(others={"click": 1.0})
    with pytest.raises(UsageError, match="reward of a cart is 1e\\+300; it must be a number between -1e\\+12 and"):
        Rewards(others={"cart": 1e300})
    for kinds in (["click", "purchase", "cart", "cart"], ["purchase", "click", "cart"]):
        with pytest.raises(ValuerecError, match="does not fit manifest"):
            Dataset(told(data, kinds).path)
    with pytest.raises(ValuerecError, match=r"event_kinds\.2: String should match pattern"):
        told(data, ["click", "purchase", "Cart"])
    assert Rewards.of(rewards.by_kind) == rewards and Rewards.of({}) == Rewards()


def with_carts(dataset: Dataset) -> Dataset:
    """The dataset with its third event of a kind of its own."""
    place, content = dataset.path / "arrays.safetensors", bytearray((dataset.path / "arrays.safetensors").read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = 8 + int.from_bytes(content[:8], "little") + header["event"]["data_offsets"][0]
    content[start + 2] = 2
    place.write_bytes(bytes(content))
    with pytest.raises(ValuerecError, match="does not fit manifest"):
        Dataset(dataset.path)  # whose manifest knows no third kind
    return told(dataset, ["click", "purchase", "cart"])


def told(dataset: Dataset, kinds: list[str]) -> Dataset:
    """The dataset with a manifest that names these kinds."""
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    manifest.pop("digest", None)
    manifest["event_kinds"] = kinds
    (dataset.path / "manifest.json").write_text(json.dumps(manifest))
    return Dataset(dataset.path)


@pytest.mark.parametrize(
    "given",
    [
        Rewards(),
        Rewards(click=-0.5, purchase=1.0),
        Rewards(click=1.0, purchase=-2.0),
        Rewards(others={"cart": 0.5, "return": -3.0}),
    ],
)
def test_shifted_rewards_begin_at_zero_and_keep_their_distance(given: Rewards) -> None:
    shifted = given.shifted()
    assert shifted.least == 0.0
    assert shifted.purchase - shifted.click == pytest.approx(given.purchase - given.click)
    assert set(shifted.others) == set(given.others)
    for kind, value in given.by_kind.items():
        assert shifted.by_kind[kind] == pytest.approx(value - min(given.by_kind.values()))
    assert (given.least, given.most) == (min(given.by_kind.values()), max(given.by_kind.values()))


def broken(dataset: Dataset, how: str) -> None:
    arrays, manifest = dataset.path / "arrays.safetensors", dataset.path / "manifest.json"
    content = arrays.read_bytes()
    counts = json.loads(manifest.read_text())
    if how == "truncated":
        arrays.write_bytes(content[:-3])
    elif how == "empty":
        arrays.write_bytes(b"")
    elif how == "header length":
        arrays.write_bytes(b"\xff" * 8 + content[8:])
    elif how == "header":
        arrays.write_bytes(content[:8] + b"x" * 20 + content[28:])
    elif how == "item out of range":
        counts["counts"]["items"] = 2
        del counts["digest"]
        manifest.write_text(json.dumps(counts))
    elif how == "missing":
        arrays.unlink()
    elif how == "newer":
        manifest.write_text(json.dumps(counts | {"schema_version": 99}))
    elif how == "not json":
        manifest.write_text("{")
    elif how == "no counts":
        del counts["counts"]
        manifest.write_text(json.dumps(counts))


@pytest.mark.parametrize(
    "how",
    ["truncated", "empty", "header length", "header", "item out of range", "missing", "newer", "not json", "no counts"],
)
def test_a_broken_dataset_is_refused_in_a_sentence(by_hand: Dataset, how: str) -> None:
    broken(by_hand, how)
    with pytest.raises(ValuerecError) as caught:
        Dataset(by_hand.path)
    assert str(by_hand.path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="no valuerec dataset"):
            Dataset(path)
