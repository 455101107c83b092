"""The service is down, slow, busy or wrong: a sentence says so, and the page goes on when it is back."""

import pytest

PICKED = ["i12", "i37"]


@pytest.fixture
def open_page(look, world):
    look.faulty = True
    look.go(click=PICKED, penalty=20)
    return look


def _move(look, value):
    look.page.locator("#penalty").fill(str(value))


def _recovered(look, penalty):
    look.until_ids("value", look.ranked(PICKED, "value", penalty=float(penalty)))
    look.page.locator("#trouble").wait_for(state="hidden")


def test_down_and_up_again(open_page, service):
    shown = open_page.ids("value")
    service.down()
    try:
        _move(open_page, 70)
        open_page.page.get_by_text("The service does not answer").wait_for()
        assert open_page.ids("value") == shown
        assert "Asking again in" in open_page.page.locator("#trouble-when").inner_text()
    finally:
        service.up()
    _recovered(open_page, 70)


def test_ask_now_does_not_wait(open_page, service, world):
    world.fault, world.retry_after = 503, 90
    _move(open_page, 70)
    open_page.page.get_by_text("cannot answer now (503): it was told to fail.").wait_for()
    open_page.page.get_by_text("Asking again in 90 s.").wait_for()
    world.fault = None
    open_page.page.get_by_role("button", name="Ask now").click()
    _recovered(open_page, 70)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (429, "The service has too much to do (429): it was told to fail."),
        (503, "The service cannot answer now (503): it was told to fail."),
        (500, "The service failed (500): it was told to fail."),
        ("broken", "The service's answer cannot be read: it is not JSON."),
        ("cut", "The service does not answer"),
    ],
)
def test_it_says_so_and_recovers_by_itself(open_page, world, fault, sentence):
    world.fault = fault
    _move(open_page, 70)
    open_page.page.get_by_text(sentence).wait_for()
    world.fault = None
    _recovered(open_page, 70)


def test_retry_after_is_kept_to(open_page, world):
    world.fault, world.retry_after = 429, 3
    _move(open_page, 70)
    open_page.page.get_by_text("Asking again in 3 s.").wait_for()
    world.fault = None
    asked = len(world.asked)
    open_page.page.wait_for_timeout(1500)
    assert len(world.asked) == asked
    _recovered(open_page, 70)


def test_a_refusal_is_not_repeated(open_page, world):
    world.fault = 422
    _move(open_page, 70)
    open_page.page.get_by_text("The service refused the request (422): it was told to fail.").wait_for()
    assert open_page.page.locator("#trouble-when").inner_text() == ""
    asked = len(world.asked)
    open_page.page.wait_for_timeout(2500)
    assert len(world.asked) == asked
    world.fault = None
    _move(open_page, 71)
    _recovered(open_page, 71)


def test_slow_is_said_and_the_newest_question_counts(open_page, world):
    world.delay = 2.5
    _move(open_page, 50)
    open_page.page.get_by_text("The service is slow; still waiting for its answer.").wait_for()
    world.delay = 0
    _move(open_page, 90)
    _recovered(open_page, 90)
    open_page.page.wait_for_timeout(2000)  # the older answer comes, and is not shown
    assert open_page.ids("value") == open_page.ranked(PICKED, "value", penalty=90.0)


def test_down_from_the_start(look, world):
    look.faulty = True
    world.fault = 500
    look.page.goto(look.url)
    look.page.get_by_text("The service failed (500)").wait_for()
    world.fault = None
    look.answered()
    look.page.locator("#trouble").wait_for(state="hidden")


def test_a_search_that_fails_says_so(open_page, world):
    world.fault = 500
    open_page.page.locator("#search").fill("tent")
    open_page.page.locator("#search-note").get_by_text("The service failed (500)").wait_for()
    world.fault = None


def test_a_key_is_asked_for(look, world):
    look.faulty = True
    world.key = "secret"
    look.page.goto(look.url)
    look.page.get_by_text("The service wants an API key (401)").wait_for()
    look.page.get_by_label("API key").fill("secret")
    look.page.get_by_label("API key").press("Enter")
    look.answered()
    assert "secret" not in look.page.url
    assert look.page.evaluate("Object.values(localStorage).concat(Object.values(sessionStorage))") == []
