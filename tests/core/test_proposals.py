"""What tests.keylist proposes for a new model, on models whose rows are known, and on made-up ones that are hard."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from lora_core.arch.base import Arch, Rename, Shapes, Signature
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from lora_core.naming.targets import Target
from tests import manifests
from tests.keylist import architecture, checking, hostnames, writing
from tests.keylist.leaves import leaves
from tests.keylist.proposal import rows_of
from tests.keylist.signatures import own_keys, signature

# One of each family of naming: fused and split, double and single blocks, whole subtrees, norms by other parameters
KNOWN = ("flux1_dev", "hidream_i1", "ideogram4", "krea2", "ltxv_2b", "lumina2", "minimax_h3", "minimax_music3",
         "mochi", "pixart_sigma", "qwen_image", "sd35_medium", "stable_audio_1", "stable_audio_3_medium",
         "wan21_i2v_14b", "z_image")  # fmt: skip


def keymap(name: str, arch: Arch) -> KeyMap:
    return KeyMap((own_keys(name), [FoundArch(arch, None, "")]))


def targets(found: KeyMap, key: str) -> tuple[Target, ...]:
    module, _, param = key.rpartition(".")
    return found.find(f"transformer.{module}", param) or found.find(f"transformer.{key}")


def without_order(found: tuple[Target, ...]) -> list[Target]:
    """Return targets as they are where rows lie in the same order in both layouts."""
    return [replace(target, order=(), start=target.start or None) for target in found]


@pytest.mark.parametrize("name", KNOWN)
def test_every_name_goes_where_the_known_rows_send_it_or_a_doubt_names_it(name: str) -> None:
    """The order of rows is the only thing that may differ, and only where a comment says so."""
    known = keymap(name, detect(manifests.checkpoint(name).keys)[0].arch)
    rows = rows_of(own_keys(name), manifests.checkpoint(name).diffusers_keys)
    proposed = keymap(name, Arch("x", "X", (), ("",), renames=rows.renames))
    doubted = {leaf.full for leaf in leaves(own_keys(name)) if any(leaf.full in line for line in rows.doubts)}
    for key in manifests.checkpoint(name).diffusers_keys:
        expected, found = targets(known, key), targets(proposed, key)
        assert without_order(found) == without_order(expected), key
        if found != expected:
            module = found[0].key.rpartition(".")[0]
            assert any(fits(module, leaf) for leaf in doubted), key


def fits(module: str, template: str) -> bool:
    pairs = zip(module.split("."), template.split("."), strict=False)
    return all(one == other or (one.isdecimal() and other.startswith("{")) for one, other in pairs)


def test_the_order_of_five_fused_parts_is_a_doubt() -> None:
    """Stable Audio 3: both layouts call it to_qkv, and shapes are equal; the parts are not in one order."""
    name = "stable_audio_3_medium"
    doubts = rows_of(own_keys(name), manifests.checkpoint(name).diffusers_keys).doubts
    assert any(line.startswith("transformer.layers.{i}.self_attn.to_qkv = ") for line in doubts)


BLOCK = {"attn.qkv.weight": (12, 8), "attn.out.weight": (8, 4), "mlp.0.weight": (16, 8), "mlp.2.weight": (8, 16)}
THERE = {
    **{f"attn.{part}_proj.weight": (rows, 8) for part, rows in (("q", 4), ("k", 2), ("v", 6))},
    "attn.to_out.0.weight": (8, 4),
    "ff.net.0.proj.weight": (16, 8),
    "ff.net.2.weight": (16, 8),
}


def blocks(names: str, of_one: Shapes) -> Shapes:
    return {f"{names}.{number}.{key}": shape for number in range(2) for key, shape in of_one.items()}


def test_pieces_of_unequal_height_have_sizes_and_a_matrix_on_its_side_is_transposed() -> None:
    """`mlp.2` is (8, 16) here and lies on its side there; both of the other's layers are (16, 8)."""
    rows = rows_of(blocks("h", BLOCK), blocks("t", THERE))
    assert set(rows.renames) == {
        Rename("h.{i}.attn.qkv", tuple(f"t.{{i}}.attn.{part}_proj" for part in "qkv"), sizes=(2, 1, 3)),
        Rename("h.{i}.attn.out", "t.{i}.attn.to_out.0"),
        Rename("h.{i}.mlp.0", "t.{i}.ff.net.0.proj"),
        Rename("h.{i}.mlp.2", "t.{i}.ff.net.2", transposed=True),
    }
    assert any(line.startswith("h.{i}.attn.qkv: that its rows are") for line in rows.doubts)


def test_modules_of_one_shape_whose_names_say_nothing_are_a_doubt() -> None:
    own = blocks("h", {"alpha.weight": (4, 4), "beta_.weight": (4, 4), "mid.weight": (4, 2)})
    there = blocks("h", {"first.weight": (4, 4), "second.weight": (4, 4), "mid.weight": (4, 2)})
    rows = rows_of(own, there)
    assert len(rows.renames) == 2
    assert any("alpha" in line and "as likely" in line for line in rows.doubts)


def test_what_has_no_partner_is_named() -> None:
    own, there = {"a.weight": (4, 2), "lonely.weight": (7, 2)}, {"a.weight": (4, 2), "other.weight": (9, 2)}
    assert rows_of(own, there).doubts == (
        "lonely: nothing there is like it",
        "other: nothing here is like this name of diffusers'",
    )


def test_a_block_with_another_layer_has_a_row_by_its_number() -> None:
    """The last block's context is normed by a smaller layer of another name: Mochi's."""
    rows = rows_of(own_keys("mochi"), manifests.checkpoint("mochi").diffusers_keys)
    assert Rename("blocks.47.mod_y", "transformer_blocks.47.norm1_context.linear_1") in rows.renames


LISTS = {"bigger": {"a.weight": (4,), "b.weight": (4,), "more.weight": (4,)}, "other": {"c.weight": (4,)}}


@pytest.mark.parametrize(
    ("own", "expected", "rivals"),
    [
        ({"a.weight": (4,), "mine.weight": (4,)}, Signature(("mine.weight", "a.weight")), []),
        ({"a.weight": (4,), "b.weight": (4,)}, Signature((), ("more.weight",)), []),
        (LISTS["bigger"] | {"a.weight": (8,)}, Signature(("more.weight", "a.weight"), (), {"a.weight": (8,)}), []),
        (LISTS["bigger"], Signature(("more.weight", "a.weight")), ["bigger"]),
    ],
)
def test_a_signature_tells_a_list_from_others(own: Shapes, expected: Signature, rivals: list[str]) -> None:
    """By a key of its own, by one that the other has besides, by a shape; the same list cannot be told apart."""
    found, fitting = signature([own], LISTS)
    assert found.fits(own)
    assert fitting == rivals
    assert [name for name, shapes in LISTS.items() if found.fits(shapes)] == rivals
    assert bool(found.lacks) == bool(expected.lacks)
    assert dict(found.shapes) == dict(expected.shapes)


@pytest.fixture(scope="module")
def ltxv() -> architecture.Proposal:
    return architecture.propose(("ltxv_2b", "ltxv_13b"), "ltxv", "LTX-Video")


def test_a_proposed_signature_fits_no_other_list(ltxv: architecture.Proposal) -> None:
    """LTX-2 has all of LTX-Video's keys; the two editions differ in shapes alone."""
    arch = ltxv.arch
    for name in manifests.archs():
        for shapes in (own_keys(name), manifests.checkpoint(name).diffusers_keys):
            is_own = name in ("ltxv_2b", "ltxv_13b")
            assert any(one.fits(shapes) for one in (*arch.signatures, *arch.others)) == is_own
    for edition in arch.editions:
        assert edition.where.fits(own_keys(edition.id))
        assert sum(edition.where.fits(own_keys(name)) for name in ("ltxv_2b", "ltxv_13b")) == 1


def test_the_text_of_a_proposal_is_a_file_for_the_architectures(tmp_path: Path, ltxv: architecture.Proposal) -> None:
    path = tmp_path / "proposed.py"
    path.write_text(writing.formatted(architecture.text(ltxv)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("lora_core.arch.proposed", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for field in ("id", "title", "signatures", "others", "prefixes", "blocks"):
        assert getattr(module.LTXV, field) == getattr(ltxv.arch, field)
    assert set(module.LTXV.renames) == set(ltxv.arch.renames)
    assert [(one.id, one.title, one.where) for one in module.LTXV.editions] == [
        (one.id, one.title, one.where) for one in ltxv.arch.editions
    ]
    assert all(line[:40] in path.read_text("utf-8") for line in ltxv.doubts)


def test_its_line_goes_into_the_list_of_architectures() -> None:
    text = (writing.FOLDER / "__init__.py").read_text("utf-8")
    added = set(writing.with_entry(text, "newest", "NEWEST").splitlines()) - set(text.splitlines())
    assert added == {"from .newest import NEWEST", "    NEWEST,"}


def test_a_check_says_nothing_of_a_model_that_is_complete() -> None:
    assert list(checking.check("ideogram4")) == []


def test_a_check_names_what_a_missing_row_leaves_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ideogram 4 with its detection alone: diffusers' names say so."""
    bare = replace(detect(manifests.checkpoint("ideogram4").keys)[0].arch, renames=())

    def found(shapes: Shapes) -> list[FoundArch]:
        return [replace(one, arch=bare) for one in detect(shapes)]

    monkeypatch.setattr(checking, "detect", found)
    lines = list(checking.check("ideogram4"))
    assert "diffusers has, with no place here: layers.#.attention.to_q.weight (34)" in lines


def test_names_that_only_comfyui_accepts_are_rows_to_be_read() -> None:
    """Krea 2: the scales of norms by their full names, and the last projection without its place."""
    known = detect(manifests.checkpoint("krea2").keys)[0].arch
    bare = replace(known, renames=tuple(row for row in known.renames if not row.read_only))
    read = {row for row in known.renames if row.read_only and isinstance(row.here, str)}
    assert set(hostnames.rows("krea2", bare)) == read
    assert not set(hostnames.rows("krea2", known))


def test_encoders_are_those_that_comfyui_has_with_the_model() -> None:
    assert hostnames.text_encoders(["krea2"]) == {"qwen3vl_4b": ("te",)}
    assert hostnames.text_encoders(["triposplat"]) == {}
