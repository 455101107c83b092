"""For everybody: by keyboard alone, at 360 and 1280 px, light and dark, without motion, and by axe's rules."""

import pytest

from serving.page.looking import Looking

PICKED = ["i12", "i37"]
VIEWS = {
    "explore": {"click": PICKED},
    "replay": {"view": "replay", "recorded": "s2", "step": 4},
    "model": {"view": "model"},
}
SIZES = [(width, scheme) for width in (360, 1280) for scheme in ("light", "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_and_nothing_sticks_out(browser, base_url, pictures, view, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: not run")
    look = Looking(browser, base_url, width, color_scheme=scheme, reduced_motion="reduce")
    look.go(**VIEWS[view])
    look.page.locator("#metrics" if view == "model" else ".row:visible").first.wait_for()
    look.page.screenshot(path=pictures / f"{view}-{width}-{scheme}.png", full_page=True)
    assert look.overflow() <= 0
    found = axe.Axe().run(look.page).response["violations"]
    told = [f"{each['impact']}: {each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"][:3]]
    assert told == []
    look.close()
    look.check()


def test_axe_finds_nothing_in_what_opens(look, world):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: not run")
    look.faulty = True
    look.go(click=["i1", "nobody's"])
    look.page.locator("#search").press("ArrowDown")
    look.page.locator("#suggestions li").first.wait_for()
    look.page.locator("#search").press("ArrowDown")
    world.fault = 401
    look.page.evaluate("document.getElementById('penalty').dispatchEvent(new Event('input'))")
    look.page.get_by_label("API key").wait_for()
    assert look.page.locator("#suggestions li").first.is_visible()
    found = axe.Axe().run(look.page).response["violations"]
    assert [f"{each['impact']}: {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found] == []


@pytest.mark.parametrize("view", VIEWS)
def test_every_control_is_reached_by_tab_and_shows_it(look, view):
    look.go(**VIEWS[view])
    look.page.wait_for_timeout(300)
    wanted = look.page.locator("a, button, input, select, [tabindex='0']").evaluate_all(
        "all => all.filter(each => each.checkVisibility() && !each.disabled).length"
    )
    seen = set()
    for _ in range(wanted + 3):
        look.page.keyboard.press("Tab")
        told = look.page.evaluate(
            """() => {
                const at = document.activeElement, look = getComputedStyle(at);
                if (at === document.body) return null;
                window.tabbed ??= new Map();
                if (!tabbed.has(at)) tabbed.set(at, tabbed.size);
                const box = at.getBoundingClientRect();
                const inside = box.bottom > 0 && box.top < innerHeight;
                return [tabbed.get(at), look.outlineStyle, parseFloat(look.outlineWidth), inside];
            }"""
        )
        if told is None:
            break
        number, style, width, inside = told
        assert style != "none" and width >= 2 and inside
        seen.add(number)
    assert len(seen) == wanted


def test_a_whole_visit_without_a_mouse(look, world):
    look.go()
    press = look.page.keyboard.press
    look.page.locator("#search").focus()
    look.page.keyboard.type("i12")
    look.page.locator("#suggestions li").first.wait_for()
    press("Enter")  # typed in full: the item of that very id
    look.until_ids("relevance", look.ranked(["i12"], "relevance"))
    press("Tab")
    press("Tab")
    press("Enter")  # the item's own ×
    look.until_ids("relevance", look.ranked([], "relevance"))
    look.page.locator("#skip").focus()
    press("Enter")
    assert look.page.evaluate("document.activeElement.id") == "columns"


@pytest.mark.parametrize("shown", ["relevance", "blend", "value"])
def test_a_narrow_screen_shows_one_list_at_a_time(browser, base_url, shown):
    look = Looking(browser, base_url, 360)
    look.go(click=PICKED, list="blend" if shown == "value" else "value")
    label = {"relevance": "Likely", "blend": "Blend", "value": "Valuable"}[shown]
    look.page.get_by_role("radio", name=label).focus()
    look.page.keyboard.press("Space")
    assert look.page.locator(".column:visible").evaluate_all("all => all.map(each => each.dataset.list)") == [shown]
    assert f"list={shown}" in look.hash()
    look.close()
    look.check()


@pytest.mark.parametrize("width", [360, 1280])
def test_a_name_is_not_cut_to_show_the_whole_id(browser, base_url, world, pictures, width):
    for number, item in enumerate(world.names):
        world.names[item] = f"{world.names[item]} for the long way home{', number' * (number % 2)}"
    ids = dict(zip(world.names, (f"{item}-5f3759df-2b7e-4151-8e0c-{item}" for item in world.names), strict=True))
    world.__dict__["names"] = {ids[item]: name for item, name in world.names.items()}
    look = Looking(browser, base_url, width)
    look.go(click=[ids[item] for item in PICKED])
    look.page.screenshot(path=pictures / f"long-{width}.png", full_page=True)
    cut = """rows => rows.map(row => ["name", "id"].map(part => {
        const found = row.querySelector("." + part);
        return found.scrollWidth > found.clientWidth || found.scrollHeight > found.clientHeight + 1;
    }))"""
    for name_cut, id_cut in look.page.locator(".column.value li.row").evaluate_all(cut):
        assert not name_cut or (id_cut and width > 360)
    look.page.locator("#search").press("ArrowDown")
    look.page.locator("#suggestions li").first.wait_for()
    look.page.screenshot(path=pictures / f"long-suggestions-{width}.png")
    for name_cut, id_cut in look.page.locator("#suggestions li").evaluate_all(cut):
        assert not name_cut or (id_cut and width > 360)
    assert look.overflow() <= 0
    look.close()
    look.check()


def test_the_theme_is_the_systems_or_chosen_and_kept(browser, base_url):
    look = Looking(browser, base_url, color_scheme="dark")
    look.go()
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = look.page.evaluate(colour)
    look.page.get_by_role("button", name="Theme: system").click()
    light = look.page.evaluate(colour)
    assert light != dark
    look.page.reload()
    assert look.page.evaluate(colour) == light
    look.page.get_by_role("button", name="Theme: light").click()
    assert look.page.evaluate(colour) == dark
    look.page.get_by_role("button", name="Theme: dark").click()
    look.page.emulate_media(color_scheme="light")
    assert look.page.evaluate(colour) == light
    look.close()
    look.check()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_rows_slide_only_where_motion_is_welcome(browser, base_url, motion):
    look = Looking(browser, base_url, reduced_motion=motion)
    look.go(click=PICKED, penalty=0)
    look.page.evaluate("() => { window.slid = 0; Element.prototype.animate = () => { window.slid += 1; }; }")
    before = look.ids("value")
    look.page.locator("#penalty").fill("100")
    look.until("before => document.querySelector('.column.value li.row').dataset.item !== before[0]", before)
    assert (look.page.evaluate("window.slid") > 0) == (motion == "no-preference")
    look.close()
    look.check()


def test_changes_are_read_aloud(look):
    look.go(click=PICKED)
    look.page.locator("#penalty").fill("55")
    look.until("document.getElementById('live').textContent.startsWith('λ 55 against λ 0')")
    assert look.page.locator("#live").get_attribute("aria-live") == "polite"
