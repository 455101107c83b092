"""A session is made, and what the lists show is what the service says of it."""

import pytest

from serving.page.looking import LISTS

PICKED = ["i12", "i37"]


@pytest.fixture
def picked(look):
    """Two items of the catalogue, whatever it is."""
    return [item["id"] for item in look.ask("/v1/items?query=&limit=50")["items"]][10:12]


def test_every_list_is_the_services(look, picked):
    look.go(click=picked, penalty=20, blend=0.5)
    for name in LISTS:
        assert look.ids(name) == look.ranked(picked, name, penalty=20.0, blend=0.5)


def test_every_number_is_the_services(look, picked):
    look.go(click=picked, penalty=20)
    for name in LISTS:
        items = look.ask("/v1/recommend", {"session": picked, "k": 10, "rank_by": name, "penalty": 20.0})["items"]
        for place, item in enumerate(items):
            value, spread, weight, product, share = look.numbers(name, place)
            assert value == pytest.approx(item["value"], abs=6e-4)
            assert spread == pytest.approx(item["uncertainty"], abs=6e-4)
            assert weight == pytest.approx(item["weight"], abs=6e-4)
            assert product == pytest.approx(item["value"] * item["weight"], abs=6e-4)
            assert share == pytest.approx(item["relevance"], rel=0.02, abs=1e-5)


def test_bars_share_one_scale(look, world):
    look.go(click=PICKED)
    items = {item["id"]: item for item in world.scored(PICKED)}
    per_unit, bounds = set(), set()
    for name in LISTS:
        for place, item in enumerate(look.ids(name)):
            row = look.row(name, place)
            width = float(row.locator("rect.full").get_attribute("width").rstrip("%"))
            left = float(row.locator("rect.full").get_attribute("x").rstrip("%"))
            ends = [float(row.locator("line.halo").get_attribute(end).rstrip("%")) for end in ("x1", "x2")]
            scale = width / items[item]["value"]
            assert (ends[1] - ends[0]) / 2 == pytest.approx(items[item]["uncertainty"] * scale, abs=0.01)
            assert sum(ends) / 2 - left == pytest.approx(width, abs=0.01)
            per_unit.add(round(scale, 1))
            bounds.add(tuple(row.locator("line.limit").evaluate_all("lines => lines.map(l => l.getAttribute('x1'))")))
    assert len(per_unit) == len(bounds) == 1
    low, high = (float(at.rstrip("%")) for at in bounds.pop())
    assert high - low == pytest.approx(2 * per_unit.pop(), abs=0.3)


def test_bounds_that_would_flatten_every_bar_are_told_not_drawn(look, world):
    world.bounds = (0.0, 100.0)
    look.go(click=PICKED)
    assert "100 lies off the scale" in look.page.locator("#bounds-text").inner_text()
    assert look.row("value", 0).locator("line.limit:not(.absent)").count() == 1


def test_the_weight_follows_the_slider_at_once_and_the_order_follows_the_service(look, world):
    look.go(click=PICKED, penalty=20)
    before = look.ids("value")
    spread = {item["id"]: item["uncertainty"] for item in world.scored(PICKED)}
    world.delay = 1.0
    look.page.locator("#penalty").focus()
    look.page.keyboard.press("End")
    assert look.ids("value") == before
    for place, item in enumerate(before[:5]):
        assert look.numbers("value", place)[2] == pytest.approx(1 / (1 + 100 * spread[item]), abs=6e-4)
    wanted = look.ranked(PICKED, "value", penalty=100.0)
    assert wanted != before
    look.until_ids("value", wanted)
    assert "penalty=100" in look.hash()
    assert look.page.locator("#penalty-text").inner_text() == "100"


def test_moves_are_counted_against_no_penalty(look, picked):
    look.go(click=picked, penalty=60)
    for name in ("blend", "value"):
        free = look.ranked(picked, name, penalty=0.0, k=100)
        wanted = [free.index(item) - place if item in free else None for place, item in enumerate(look.ids(name))]
        assert wanted != [0] * 10
        assert look.moves(name) == wanted
    assert look.moves("relevance") == [0] * 10
    assert "λ 60 against λ 0" in look.page.locator("#summary").inner_text()
    look.page.locator("#penalty").focus()
    look.page.keyboard.press("Home")
    look.until_ids("value", look.ranked(picked, "value", penalty=0.0))
    assert look.moves("value") == [0] * 10


def test_what_is_new_is_not_passed_over_for_what_moved_less(look, world):
    look.go(click=PICKED, penalty=100, k=50)
    free, now = (look.ranked(PICKED, "value", penalty=penalty, k=100) for penalty in (0.0, 100.0))
    fresh = [place for place, item in enumerate(now[:50]) if item not in free]
    assert len(fresh) > 1
    moved = {place: free.index(item) - place for place, item in enumerate(now[:50]) if item in free}
    best = max(moved, key=moved.__getitem__)
    told = f"New by value: {world.names[now[fresh[0]]]} at {fresh[0] + 1} and {len(fresh) - 1} more. "
    told += (
        f"Furthest up by value of the others: {world.names[now[best]]}, from {best + moved[best] + 1} to {best + 1}."
    )
    assert look.page.locator("#summary").inner_text().endswith(told)


def test_moves_are_counted_against_the_view_before(look, world):
    look.go(click=PICKED, compare="before", penalty=0)
    for _ in range(3):
        look.page.locator("#penalty").press("PageUp")
    penalty = float(look.page.locator("#penalty").input_value())
    assert penalty > 0
    look.until_ids("value", look.ranked(PICKED, "value", penalty=penalty))
    look.page.locator("#penalty").fill("70")
    now = look.ranked(PICKED, "value", penalty=70.0)
    look.until_ids("value", now)
    before = look.ranked(PICKED, "value", penalty=penalty, k=100)
    assert look.moves("value") == [before.index(item) - place for place, item in enumerate(now)]


def test_the_blend_goes_from_likely_to_valuable(look, picked):
    look.go(click=picked)
    slider = look.page.locator("#blend")
    slider.focus()
    look.page.keyboard.press("Home")
    look.until_ids("blend", look.ids("relevance"))
    look.page.keyboard.press("End")
    look.until_ids("blend", look.ids("value"))
    assert slider.get_attribute("aria-valuetext") == "100 % valuable"
    assert "blend=1" in look.hash()


def test_an_item_is_found_by_name_with_the_keyboard(look, world):
    look.go()
    box = look.page.get_by_role("combobox", name="Add an item, by id or name")
    box.focus()
    look.page.keyboard.type("enamel t")
    options = look.page.locator("#suggestions li")
    options.first.wait_for()
    assert options.all_inner_texts() == ["Enamel tent\ni23", "Enamel teapot\ni83", "Enamel tripod\ni143"]
    assert box.get_attribute("aria-expanded") == "true"
    look.page.keyboard.press("ArrowDown")
    look.page.keyboard.press("ArrowDown")
    active = box.get_attribute("aria-activedescendant")
    assert look.page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    look.page.keyboard.press("Enter")
    look.until_ids("relevance", look.ranked(["i83"], "relevance"))
    assert "click=i83" in look.hash()
    assert box.input_value() == "" and box.get_attribute("aria-expanded") == "false"
    look.until("document.activeElement.id === 'search'")


def test_suggestions_open_by_arrow_go_round_and_close(look):
    look.go()
    box = look.page.locator("#search")
    box.press("ArrowDown")
    look.page.locator("#suggestions li").first.wait_for()
    box.press("ArrowUp")
    last = look.page.locator("#suggestions li").last
    assert last.get_attribute("aria-selected") == "true"
    box.press("ArrowDown")
    assert look.page.locator("#suggestions li").first.get_attribute("aria-selected") == "true"
    box.press("Escape")
    assert look.page.locator("#suggestions").is_hidden()
    assert box.get_attribute("aria-activedescendant") is None


def test_an_item_is_picked_with_the_mouse(look):
    look.go()
    look.page.locator("#search").press("ArrowDown")
    look.page.locator("#suggestions li").nth(3).click()
    first = look.ask("/v1/items?query=&limit=4")["items"][3]["id"]
    look.until_ids("relevance", look.ranked([first], "relevance"))


def test_what_the_model_does_not_know_is_said(look):
    look.go()
    look.page.locator("#search").fill("no such item")
    look.page.get_by_text("Enter adds “no such item” as it is").wait_for()
    look.page.locator("#search").press("Enter")
    look.page.get_by_text("The model does not know “no such item”").wait_for()
    assert look.page.locator("#session li.unknown").count() == 1


def test_a_session_is_changed_item_by_item_and_back_undoes_it(look, picked):
    look.go(click=picked)
    look.page.locator("#session .kind").first.click()
    assert look.hash().startswith("#view=explore&purchase=")
    assert look.page.evaluate("document.activeElement.textContent") == "bought"
    look.page.locator("#session .remove").first.click()
    look.until_ids("relevance", look.ranked(picked[1:], "relevance"))
    assert "remove" in look.page.evaluate("document.activeElement.className")
    added = look.ids("value")[2]
    look.row("value", 2).get_by_role("button").click()
    look.until_ids("value", look.ranked([picked[1], added], "value"))
    look.page.go_back()
    look.until_ids("value", look.ranked(picked[1:], "value"))
    look.page.get_by_role("button", name="Clear the session").click()
    look.until_ids("relevance", look.ranked([], "relevance"))
    assert look.page.locator("#session li").count() == 0


def test_what_the_session_has_is_left_out(look, picked):
    look.go(click=picked, k=50)
    seen = look.ids("relevance")[0]
    look.go(click=[*picked, seen], k=20)
    look.page.get_by_label("leave out what the session has").check()
    wanted = look.ranked([*picked, seen], "relevance", exclude_seen=True, k=20)
    look.until_ids("relevance", wanted)
    assert seen not in wanted and "unseen=1" in look.hash()
    look.page.locator("#length").select_option("5")
    look.until_ids("relevance", wanted[:5])


def test_a_view_is_shared_by_its_address(look, picked):
    look.go(click=picked, penalty=35, blend=0.2, k=5, unseen=1)
    shown = {name: look.ids(name) for name in LISTS}
    address = look.page.url
    look.page.goto(f"{look.url}/#")
    look.page.goto(address)
    look.page.reload()
    look.answered()
    assert {name: look.ids(name) for name in LISTS} == shown
    assert look.page.url == address


@pytest.mark.parametrize("wrong", ["#view=nowhere&penalty=x&blend=7&k=3&list=&step=-1", "#%%%=&&&=", "#penalty=1e999"])
def test_a_wrong_address_is_read_as_far_as_it_goes(look, wrong):
    look.page.goto(f"{look.url}/{wrong}")
    look.answered()
    assert len(look.ids("value")) == 10


def test_a_row_that_is_pointed_at_is_marked_in_every_list(look, picked):
    look.go(click=picked, k=50)
    common = next(item for item in look.ids("blend") if item in look.ids("value"))
    look.row("blend", look.ids("blend").index(common)).hover()
    assert look.page.locator("li.row.pointed").evaluate_all(
        "rows => [...new Set(rows.map(row => row.dataset.item))]"
    ) == [common]
    assert look.page.locator(".column.value li.row.pointed").count() == 1


def test_a_model_without_values_says_so(look, world):
    world.has_values = False
    look.go(click=PICKED)
    assert look.page.get_by_text("This model gives no values").is_visible()
    assert look.ids("relevance") == look.ranked(PICKED, "relevance")
    assert look.ids("value") == look.ids("blend") == []
    assert look.page.locator("#penalty").is_hidden() and look.page.locator("#blend").is_hidden()
    assert look.page.locator("svg.bar:visible").count() == 10  # how likely each is, and no empty bar


def test_a_fallback_is_said(look, world):
    world.fallback = "The heads disagree on every item; ranked by relevance instead."
    look.go(click=PICKED)
    assert look.page.get_by_text("The heads disagree on every item").is_visible()
