"""The check for complaints of our scripts can fail."""

from __future__ import annotations

from tests.browser.stage import Stage


def test_an_error_of_our_extension_is_noticed(stage: Stage) -> None:
    with stage.page.expect_event("pageerror"):
        stage.page.evaluate("() => setTimeout(() => { throw new Error('loracore.rows: on purpose'); })")
    assert any("on purpose" in complaint for complaint in stage.complaints)
    stage.complaints.clear()
    stage.page.evaluate("() => console.error('an extension of somebody else')")
    assert stage.complaints == []
