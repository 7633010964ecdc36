"""docs/models.md and the README's summary are what lora_core/arch and tests/data give: `make models` writes them."""

from __future__ import annotations

from lora_core.arch import ARCHES, DIFFUSION_ARCHES
from tests import manifests, modeltable


def test_the_page_is_what_the_data_gives() -> None:
    assert modeltable.PAGE.read_text("utf-8") == modeltable.page()


def test_the_readme_says_what_the_data_gives() -> None:
    text = modeltable.README.read_text("utf-8")
    assert text == modeltable.with_summary(text)


def test_a_summary_that_is_not_the_datas_is_replaced() -> None:
    text = f"before\n{modeltable.BEGIN}\n2 models\n{modeltable.END}\nafter"
    assert modeltable.with_summary(text) == (
        f"before\n{modeltable.BEGIN}\n{modeltable.summary()}\n{modeltable.END}\nafter"
    )


def test_every_model_and_edition_is_in_the_page() -> None:
    page = modeltable.page()
    for arch in ARCHES:
        assert f"| {arch.title} |" in page
        assert all(edition.title in page for edition in arch.editions)


def test_every_trainers_file_is_of_some_model_and_its_trainer_has_a_name() -> None:
    """Each list is under one model; each row of the trainers' names is the start of some list's."""
    lists = [name for model in modeltable.models(DIFFUSION_ARCHES) for name in model.trainers]
    assert sorted(lists) == manifests.trainers()
    assert all(modeltable.trainer_titles([name]) for name in lists)
    assert all(any(name.startswith(start) for name in lists) for start, _ in modeltable.TRAINERS)


def test_layouts_are_those_of_the_lists() -> None:
    found = {model.title: model.layouts for model in modeltable.models(DIFFUSION_ARCHES)}
    assert found["Flux.1"] == ("own", "diffusers")
    assert found["FLUX.3"] == ("own",)
