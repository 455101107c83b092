"""Ids and names that would be HTML, run across the page, or turn it round."""

import pytest

from serving.page.fake import HOSTILE
from serving.page.looking import Looking


@pytest.fixture
def world(world):
    world.hostile = True
    return world


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("view", [{}, {"view": "replay", "step": "4"}], ids=["explore", "replay"])
def test_they_are_text_and_stay_in_their_place(browser, base_url, world, width, view):
    look = Looking(browser, base_url, width)
    recorded = world.recorded[-1]["id"]
    look.go(**(view | {"recorded": recorded} if view else {"click": list(HOSTILE)}), k=50, list="relevance")
    assert look.overflow() <= 0
    assert look.page.locator("main img, main script, main b").count() == 0
    assert (
        look.page.locator("body *").evaluate_all(
            "all => all.filter(each => [...each.attributes].some(({name}) => /^(on.*|style)$/.test(name))).length"
        )
        == 0
    )
    look.close()
    look.check()


def test_they_come_first_and_are_shown_as_they_are(look, world):
    look.go(k=10)
    assert set(look.ids("relevance")[:6]) == set(HOSTILE)
    text = look.page.locator(".column.relevance").inner_text()
    assert "<script>alert('name')</script>" in text and "<img src=x onerror=alert(1)>" in text
    assert "\u202e" not in text and "[U+202E]" in text
    assert "zero[U+200B]width" in text


@pytest.mark.parametrize("item", HOSTILE, ids=range(len(HOSTILE)))
def test_they_survive_picking_and_the_address(look, world, item):
    look.go()
    look.row("relevance", look.ids("relevance").index(item)).get_by_role("button").click()
    look.until_ids("relevance", look.ranked([item], "relevance"))
    look.page.reload()
    look.answered()
    assert look.ids("relevance") == look.ranked([item], "relevance")
    assert world.asked[-1][1]["session"] == [item]
    assert look.page.locator("#session li").count() == 1 and look.page.locator("#unknown").is_hidden()


def test_they_are_found_and_picked(look, world):
    look.go()
    look.page.locator("#search").fill("<img")
    look.page.locator("#suggestions li").click()
    look.until_ids("value", look.ranked(["<img src=x onerror=alert(1)>"], "value"))
