"""The model's facts, metrics and card."""


def test_the_metrics_are_the_cards(look):
    look.go(view="model")
    look.page.locator("#metrics").wait_for()
    metrics = look.ask("/v1/model")["metrics"]
    rows = look.page.locator("#metrics tbody tr")
    wanted = [
        [f"{split}, {kind}", *(f"{value:.4f}" for value in values.values())]
        for split, kinds in metrics.items()
        if split in ("test", "validation")
        for kind, values in kinds.items()
    ]
    assert [row.inner_text().split("\t") for row in rows.all()] == wanted


def test_facts_are_shown(look):
    look.go(view="model")
    model = look.ask("/v1/model")
    text = look.page.locator(".facts").inner_text()
    assert model["backbone"] in text and model["method"] in text and str(model["version"]) in text


def test_the_card_is_text(look, world):
    look.go(view="model")
    card = look.page.locator(".card")
    card.wait_for()
    assert card.locator("script, img, a").count() == 0
    assert "<script>alert('card')</script>" in card.inner_text()
    assert card.locator("h3, h4").all_inner_texts() == ["sasrec by vpq", "Use", "Scores", "Limits"]
    assert card.locator("pre").inner_text() == 'import valuerec as vr\n\nmodel = vr.load("this <folder>")'
    assert card.locator("td").all_inner_texts() == ["0.2000", "0.3000"]
    assert card.locator("strong").inner_text() == "estimates"


def test_a_model_that_was_not_scored(look, world):
    world.metrics = {}
    look.go(view="model")
    look.page.get_by_text("was not scored").wait_for()


def test_a_new_version_is_noticed(look, world):
    look.go()
    world.version = "step-1000"
    look.page.locator("#penalty").press("PageUp")
    look.page.locator("#running").get_by_text("step-1000").wait_for()
