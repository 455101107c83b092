"""A recorded session, step by step."""

import pytest


@pytest.fixture
def recorded(look):
    found = look.ask("/v1/sessions?limit=50")["sessions"]
    if not found:
        pytest.skip("the service has no recorded sessions")
    return max(found, key=lambda session: len(session["events"]))


def test_every_step_marks_what_came_next_with_its_rank_in_every_list(look, recorded):
    look.go(view="replay", recorded=recorded["id"], step=0, k=10)
    places = set()
    for step, event in enumerate(recorded["events"][:8]):
        look.until("step => document.getElementById('step-text').textContent.startsWith(`${step} of`)", step)
        session = [each["item"] for each in recorded["events"][:step]]
        look.until_ids("relevance", _shown(look, session, "relevance", event["item"]))
        verb = "bought" if event["event"] == "purchase" else "clicked"
        for name in ("relevance", "blend", "value"):
            marked = look.page.locator(f".column.{name} li.row.next")
            assert marked.evaluate_all("rows => rows.map(row => row.dataset.item)") == [event["item"]]
            assert f"{verb} next" in marked.inner_text()
            ranked = look.ranked(session, name, k=100)
            rank = str(ranked.index(event["item"]) + 1) if event["item"] in ranked else "> 100"
            assert marked.locator(".rank").inner_text() == rank
            told = look.page.locator(f"#next .ranks .{name} strong").inner_text()
            assert told == (rank if rank.startswith(">") else f"#{rank}")
            places.add("shown" if rank.isdigit() and int(rank) <= 10 else "beyond")
        assert look.page.locator("#timeline [aria-current=step] .rank").inner_text() == str(step + 1)
        look.page.get_by_role("button", name="Next ▶").click()
    assert places == {"shown", "beyond"}


def _shown(look, session, by, came):
    """The first ten, and what came next where it is not among them."""
    first = look.ranked(session, by)
    return first if came in first else [*first, came]


def test_the_timeline_is_gone_through_with_keys_and_has_an_end(look, recorded):
    length = len(recorded["events"])
    look.go(view="replay", recorded=recorded["id"], step=length - 2)
    look.page.locator("#timeline button").nth(length - 2).focus()
    look.page.keyboard.press("ArrowRight")
    look.until("step => location.hash.endsWith(`step=${step}`)", length - 1)
    look.page.keyboard.press("ArrowRight")
    look.page.get_by_text("The session ends here").wait_for()
    assert look.page.get_by_role("button", name="Next ▶").get_attribute("aria-disabled") == "true"
    assert look.page.locator("li.row.next").count() == 0
    look.page.locator("#timeline button").first.click()
    look.until("document.querySelector('#timeline [aria-current] .rank')?.textContent === '1'")
    assert look.page.get_by_role("button", name="◀ Back").get_attribute("aria-disabled") == "true"


@pytest.mark.parametrize(("button", "from_end"), [("Next ▶", True), ("◀ Back", False)])
def test_a_step_to_the_end_leaves_the_focus_where_it_is(look, recorded, button, from_end):
    end = len(recorded["events"]) if from_end else 0
    look.go(view="replay", recorded=recorded["id"], step=end - 1 if from_end else 1)
    look.page.get_by_role("button", name=button).focus()
    look.page.keyboard.press("Enter")
    look.until("step => location.hash.endsWith(`step=${step}`)", end)
    for _ in range(2):  # and what goes no further does nothing
        assert look.page.evaluate("document.activeElement.textContent") == button
        assert look.page.evaluate("document.activeElement.ariaDisabled") == "true"
        look.page.keyboard.press("Enter")
    assert look.hash().endswith(f"step={end}")
    opposite = look.page.get_by_role("button", name="◀ Back" if from_end else "Next ▶")
    assert opposite.get_attribute("aria-disabled") == "false"


def test_another_session_is_chosen(look, world):
    look.go(view="replay")
    look.page.locator("#recorded").select_option("s3")
    look.until("location.hash.includes('recorded=s3')")
    assert look.page.locator("#timeline li").count() == len(world.recorded[3]["events"])


def test_one_goes_on_from_a_step_in_explore(look, recorded):
    look.go(view="replay", recorded=recorded["id"], step=3)
    look.page.get_by_role("button", name="Go on from here in Explore").click()
    session = [each["item"] for each in recorded["events"][:3]]
    look.until_ids("value", look.ranked(session, "value"))
    assert look.page.locator("#session li").count() == 3


def test_what_is_left_out_is_not_ranked(look, world):
    step = next(
        (number, place)
        for number, session in enumerate(world.recorded)
        for place, event in enumerate(session["events"])
        if event["item"] in [each["item"] for each in session["events"][:place]]
    )
    look.go(view="replay", recorded=f"s{step[0]}", step=step[1], unseen=1)
    assert look.page.locator("#next .ranks strong").all_inner_texts() == ["left out"] * 3
    assert look.page.locator("li.row.next").count() == 0


def test_an_item_the_model_does_not_know(look, world):
    world.recorded.append({"id": "odd", "events": [{"item": "gone", "event": "purchase"}]})
    look.go(view="replay", recorded="odd")
    look.page.get_by_text("The model does not know this item").wait_for()
    assert look.page.locator("#next").inner_text().startswith("● Then bought gone")


def test_no_recorded_sessions(look, world):
    world.sessions = False
    look.page.goto(f"{look.url}/#view=replay")
    look.page.get_by_text("The service has no recorded sessions").wait_for()
    assert look.page.locator("#columns").is_hidden()
