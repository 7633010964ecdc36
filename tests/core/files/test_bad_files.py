"""Every bad file through every command that may meet it: one clear error, exit code 1, no output, nothing left."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_core.cli.entry import main
from lora_core.errors import LoraError
from lora_core.reading.lorafile import LoraFile
from tests import tiny
from tests.core import samples
from tests.core.samples import F32, listing, load, raw, save

MODULE = "lora_unet_double_blocks_0_img_attn_qkv"
UP, DOWN = f"{MODULE}.lora_up.weight", f"{MODULE}.lora_down.weight"
DAMAGED = "the file is damaged"
DOWNLOAD = "probably an error page saved by a download; download the file again."


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Flux checkpoint, another that was trained from it, and a LoRA for it."""
    folder = tmp_path_factory.mktemp("good")
    tiny.make_tiny("flux", folder / "flux.safetensors")
    tiny.make_tiny("flux", folder / "tuned.safetensors", seed=1)
    tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    return folder


# Each makes the bad file at a path, with the good ones at hand

Make = Callable[[Path, Path], object]


def content(data: bytes) -> Make:
    return lambda bad, good: bad.write_bytes(data)


def tensors(named: dict[str, Tensor]) -> Make:
    return lambda bad, good: save(bad, named)


def lora_with(**changed: Tensor | None) -> Make:
    """The good LoRA with tensors of one module changed, or taken away."""

    def make(bad: Path, good: Path) -> object:
        found = load(good / "lora.safetensors")
        for part, value in changed.items():
            name = f"{MODULE}.{part.replace('__', '.')}"
            found.pop(name, None)
            found |= {} if value is None else {name: value}
        return save(bad, found)

    return make


def beginning(of: str, length: int) -> Make:
    return lambda bad, good: bad.write_bytes((good / of).read_bytes()[:length])


def other_zip(bad: Path, good: Path) -> None:
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("lora/style.safetensors", b"x" * 100)


def sparse(**parts: tuple[str, tuple[int, ...]]) -> Make:
    """A LoRA of one module whose tensors have the size that the header says, and take no room on disk."""
    named = {"lora_up__weight": ("F16", (384, 4)), "lora_down__weight": ("F16", (4, 128)), **parts}
    keys = {f"{MODULE}.{part.replace('__', '.')}": value for part, value in named.items()}
    return lambda bad, good: tiny.sparse_file(bad, keys)


def command(bad: Path) -> object:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {bad.parent / 'mark'}",)

    return Payload()


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


@dataclass(frozen=True)
class Bad:
    case: int  # of docs/reliability.md
    make: Make
    text: str  # how the message goes on behind the file's name, where it is given as a LoRA
    as_model: str = ""  # the same where it is given as a checkpoint; the same text if empty


LORA_GIVEN = "is a LoRA, not a checkpoint; give it with the LoRAs, and a checkpoint as the base."
OF_MODULE = f"{MODULE}: "

BAD: dict[str, Bad] = {
    # case 1: broken headers; each rule of the format alone is in test_tensorfile.py
    "empty": Bad(1, content(b""), "expected a safetensors file, found 0 bytes."),
    "no JSON": Bad(1, content(raw(b"hello world!")), "expected a safetensors file; its header is not JSON."),
    "overlap": Bad(1, content(raw({"x": F32, "y": F32}, bytes(8))), "broken header: tensor 'y' overlaps another."),
    "trailing bytes": Bad(1, content(raw({"x": F32}, bytes(11))), "3 bytes follow the last tensor; the file is dam"),
    "duplicate key": Bad(2, content(raw(b'{"x":%b,"x":%b}' % ((json.dumps(F32).encode(),) * 2), bytes(8))),
                         "broken header: a key appears twice."),
    "header of 101 MB": Bad(4, content(raw(b"{}" + b" " * 100, length=101_000_000)),
                            "not a safetensors file, or its header is above our limit: it claims 101000000 bytes"),
    "empty name": Bad(5, content(raw({"": F32}, bytes(8))), "tensor name '' is empty or above 512 bytes."),
    "name of 10 kB": Bad(5, content(raw({"n" * 10_000: F32}, bytes(8))), "tensor name 'nnnnnnnnnnnnnnnnnnn"),
    # cases 6 to 9: what is in a LoRA
    "alpha NaN": Bad(6, lora_with(alpha=torch.tensor(torch.nan)), OF_MODULE + "alpha is nan; " + DAMAGED, LORA_GIVEN),
    "alpha 1e308": Bad(6, lora_with(alpha=torch.tensor(1e308, dtype=torch.float64)),
                       OF_MODULE + "alpha 1e+308 makes a scale of 2.5e+307, and none is above 1e+09; " + DAMAGED,
                       LORA_GIVEN),
    "alpha of many": Bad(6, lora_with(alpha=zeros(1000)),
                         f"tensor '{MODULE}.alpha' must hold one number; found F32 of shape (1000,).", LORA_GIVEN),
    "alpha of 300 GB": Bad(6, sparse(alpha=("F32", (75 * 10**9,))),
                           f"tensor '{MODULE}.alpha' must hold one number; found F32 of shape (75000000000,).",
                           LORA_GIVEN),
    "NaN": Bad(7, lora_with(lora_up__weight=torch.full((384, 4), float("nan"))),
               OF_MODULE + "holds NaN or infinity; the file is damaged or its training failed.", LORA_GIVEN),
    "infinity": Bad(7, lora_with(lora_down__weight=torch.full((4, 128), -float("inf"))),
                    OF_MODULE + "holds NaN or infinity; the file is damaged or its training failed.", LORA_GIVEN),
    "numbers of 1e38": Bad(7, lora_with(lora_up__weight=torch.full((384, 4), 1e38)),
                           OF_MODULE + "holds numbers up to 1e+38, above 1e+09; the file is damaged or its training f",
                           LORA_GIVEN),
    "up alone": Bad(8, lora_with(lora_down__weight=None), OF_MODULE + "has up without down; " + DAMAGED, LORA_GIVEN),
    "down alone": Bad(8, lora_with(lora_up__weight=None), OF_MODULE + "has down without up; " + DAMAGED, LORA_GIVEN),
    "two ranks": Bad(8, lora_with(lora_down__weight=zeros(3, 128)),
                     OF_MODULE + "the ranks of up [384, 4] and down [3, 128] differ; " + DAMAGED, LORA_GIVEN),
    "rank 0": Bad(8, lora_with(lora_up__weight=zeros(384, 0), lora_down__weight=zeros(0, 128)),
                  OF_MODULE + "holds no numbers: up [384, 0], down [0, 128]; " + DAMAGED, LORA_GIVEN),
    "rank of 300 GB": Bad(8, sparse(lora_up__weight=("F32", (384, 2**28)), lora_down__weight=("F32", (2**28, 128))),
                          OF_MODULE + "has rank 268435456, and none is above 32768; " + DAMAGED, LORA_GIVEN),
    "a vector": Bad(8, lora_with(lora_up__weight=zeros(384)),
                    OF_MODULE + "expected up [out, r] and down [r, in, ...], found [384] and [4, 128]; " + DAMAGED,
                    LORA_GIVEN),
    "a scalar": Bad(8, lora_with(lora_up__weight=zeros()),
                    OF_MODULE + "expected up [out, r] and down [r, in, ...], found [] and [4, 128]; " + DAMAGED,
                    LORA_GIVEN),
    "two spellings": Bad(8, lora_with(lora_A__weight=zeros(4, 128)),
                         OF_MODULE + f"has two spellings of one part, '{MODULE}.lora_A.weight' and '{DOWN}'.",
                         LORA_GIVEN),
    "whole numbers": Bad(8, lora_with(lora_up__weight=zeros(384, 4).to(torch.int8)),
                         OF_MODULE + "up holds I8, expected real numbers; it is damaged, or quantised in", LORA_GIVEN),
    "complex numbers": Bad(8, lora_with(lora_up__weight=zeros(384, 4).to(torch.complex64)),
                           OF_MODULE + "up holds C64, expected real numbers; ", LORA_GIVEN),
    "reshape to NaN": Bad(8, lora_with(reshape_weight=torch.tensor([float("nan"), 128])),
                          OF_MODULE + "reshape_weight lists [nan, 128.0], expected a shape that the parts make, "
                          "[384, 128]; " + DAMAGED, LORA_GIVEN),
    "reshape below 0": Bad(8, lora_with(reshape_weight=torch.tensor([-1, 128])),
                           OF_MODULE + "reshape_weight lists [-1, 128], expected", LORA_GIVEN),
    "reshape to 10^18": Bad(8, lora_with(reshape_weight=torch.tensor([2**40, 2**20])),
                            OF_MODULE + "reshape_weight lists [1099511627776, 1048576], expected", LORA_GIVEN),
    "reshape of 200 GB": Bad(8, sparse(reshape_weight=("I64", (25 * 10**9,))),
                             OF_MODULE + "reshape_weight lists [25000000000], expected", LORA_GIVEN),
    "only alphas": Bad(9, tensors({f"{MODULE}.alpha": torch.ones(())}),
                       "is not a LoRA: it holds alphas and nothing that they scale.", LORA_GIVEN),
    # case 11: other files
    "no tensors": Bad(11, tensors({}), "is not a LoRA: none of its 0 tensors is an adapter's; it holds nothing.",
                      "none of the known architectures fits its 0 tensors; it holds nothing."),
    "embedding": Bad(11, tensors({"emb_params": torch.ones(4, 768)}),
                     "is a textual inversion embedding, not a LoRA; put it into the embeddings folder",
                     "none of the known architectures fits its 1 tensors; it holds 'emb_params'; it is a"),
    "VAE": Bad(11, lambda bad, good: tiny.make_tiny("tae16", bad),
               "is a VAE, not a LoRA; put it into the vae folder",
               "none of the known architectures fits its 136 tensors; it holds 'taesd"),
    "HTML": Bad(11, content(b"<!DOCTYPE html><html><body>404</body></html>"),
                f"expected a safetensors file, found an HTML page, {DOWNLOAD}"),
    "XML": Bad(11, content(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
               f"expected a safetensors file, found an XML page, {DOWNLOAD}"),
    "JSON": Bad(11, content(b'{"error":"Unauthorized","message":"The creator of this asset requires you to log in"}'),
                'expected a safetensors file, found text (\'{"error":"Unauthorized","message":"The c\'), '
                f"{DOWNLOAD}"),
    "text": Bad(11, content(b"Invalid username or password."),
                f"expected a safetensors file, found text ('Invalid username or password.'), {DOWNLOAD}"),
    "LFS pointer": Bad(11, content(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
                       "expected a safetensors file, found a Git LFS pointer, not the file itself; download the real"),
    "zip": Bad(11, other_zip, "is a zip archive, but not a PyTorch file of tensors; convert it to safetensors."),
    "gzip": Bad(11, content(b"\x1f\x8b\x08" + bytes(100)), "expected a safetensors file, found a gzip archive; unpack"),
    "7z": Bad(11, content(b"7z\xbc\xaf'\x1c" + bytes(100)), "expected a safetensors file, found a 7z archive; unpack"),
    "RAR": Bad(11, content(b"Rar!\x1a\x07\x00" + bytes(100)), "expected a safetensors file, found a RAR archive; unp"),
    "picture": Bad(11, content(b"\x89PNG\r\n\x1a\n" + bytes(100)), "expected a safetensors file, found a PNG picture;"),
    "folder": Bad(11, lambda bad, good: bad.mkdir(),
                  "is a folder; expected adapter_model.safetensors or pytorch_lora_weights.safetensors in it, found n",
                  "is a folder, but not a model folder: expected model.safetensors, diffusion_pytorch_model"),
    # case 12: partial downloads
    "cut": Bad(12, beginning("lora.safetensors", -10), "truncated: has 105756 bytes, needs 105766; download or copy"),
    "cut in the header": Bad(12, beginning("lora.safetensors", 200),
                             "truncated: has 200 bytes, its header alone needs 7416; download or copy it again."),
    "cut checkpoint": Bad(12, beginning("flux.safetensors", -1), "truncated: has "),
    "reserved space": Bad(12, content(bytes(2**20)),
                          "begins with zeros, so its download is probably not complete; download it again."),
    # cases 13 to 15: PyTorch files (more in test_pickles.py), GGUF (more in test_gguf.py)
    "payload": Bad(13, lambda bad, good: torch.save({"x": command(bad), "y": torch.ones(2)}, bad),
                   "holds more than tensors, or is broken, and is not loaded ("),
    "old payload": Bad(13, lambda bad, good: bad.write_bytes(pickle.dumps({"x": command(bad)}, protocol=4)),
                       "expected a safetensors file, found a pickled PyTorch file; convert it to safetensors first."),
    "stride 0": Bad(14, lambda bad, good: torch.save({"x": torch.ones(1).expand(10**6, 10**6)}, bad),
                    "tensor 'x' claims 4000000000000 bytes, its storage has 4; the file is made to harm."),
    "GGUF": Bad(15, content(b"GGUF\x03\0\0\0" + bytes(5)), "broken GGUF"),
    "NF4": Bad(15, tensors({"model.diffusion_model.double_blocks.0.img_attn.qkv.weight.quant_state.bitsandbytes__nf4":
                            torch.ones(1)}), "is not a LoRA: none of its 1 tensors is an adapter's; it holds",
               "is quantised by bitsandbytes NF4 ("),
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    takes: str  # lora, model, or any: what the bad file is given as
    words: str  # {bad}, {out} and the good files
    reads_values: bool = True  # not only headers


COMMANDS: dict[str, Command] = {
    "inspect": Command("any", "inspect {bad}", reads_values=False),
    "inspect --spectra": Command("any", "inspect --spectra {bad}", reads_values=False),  # tells of NaN, and goes on
    "inspect --stack": Command("lora", "inspect {lora} --stack {bad}", reads_values=False),
    "inspect --against": Command("model", "inspect {lora} --against {bad}"),
    "merge --lora": Command("lora", "merge --base {flux} --lora {lora} --lora {bad} --out {out}"),
    "merge --base": Command("model", "merge --base {bad} --lora {lora} --out {out}"),
    "extract --base": Command("model", "extract --base {bad} --tuned {tuned} --rank 2 --out {out}"),
    "extract --tuned": Command("model", "extract --base {flux} --tuned {bad} --rank 2 --out {out}"),
    "extract --lora": Command("lora", "extract --base {flux} --lora {bad} --rank 2 --out {out}"),
    "resize": Command("lora", "resize {bad} --rank 2 --out {out}"),
    "resize --base": Command("model", "resize {lora} --rank 2 --base {bad} --out {out}"),
    "convert": Command("lora", "convert {bad} --dialect peft --base {flux} --rank 2 --kind lora --out {out}"),
    "convert --base": Command("model", "convert {lora} --dialect peft --base {bad} --out {out}"),
    "combine": Command("lora", "combine --lora {lora} --lora {bad} --base {flux} --out {out}"),
    "combine --base": Command("model", "combine --lora {lora} --base {bad} --out {out}"),
}


def arguments(command: Command, bad: Path, good: Path, out: Path) -> list[str]:
    files = {"lora": "lora.safetensors", "flux": "flux.safetensors", "tuned": "tuned.safetensors"}
    paths = {name: str(good / file) for name, file in files.items()} | {"bad": str(bad), "out": str(out)}
    return [word.format(**paths) for word in command.words.split()]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.case(bad.case)) for name, bad in BAD.items()])
def test_a_bad_file_is_one_clear_error_of_every_command(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "in").mkdir()
    bad, found = tmp_path / "in/bad.safetensors", BAD[name]
    found.make(bad, good)
    for title, command in COMMANDS.items():
        if found.case == 7 and not command.reads_values:
            continue
        out = tmp_path / "out" / "o.safetensors"
        out.parent.mkdir()
        code = main(arguments(command, bad, good, out))
        printed = capsys.readouterr()
        texts = [found.as_model or found.text] if command.takes != "lora" else [found.text]
        texts += [found.text] if command.takes == "any" else []
        expected = [f"lora-core: bad.safetensors: {text}" for text in texts]
        assert (code, printed.out) == (1, ""), f"{title}: {printed}"
        assert any(map(printed.err.startswith, expected)), f"{title}: {printed.err}"
        assert printed.err.count("\n") == 1, f"{title}: {printed.err}"
        assert listing(out.parent) == [], title
        shutil.rmtree(out.parent)
    assert listing(tmp_path) == ["in", "in/bad.safetensors"]  # no mark of a payload, nothing of a command


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.case(bad.case)) for name, bad in BAD.items()])
def test_a_bad_file_is_the_same_error_where_load_lora_reads_it(good: Path, tmp_path: Path, name: str) -> None:
    """The node opens the file, reads all of it, and asks each adapter's numbers where it is placed."""
    bad = tmp_path / "bad.safetensors"
    BAD[name].make(bad, good)
    if BAD[name].case == 7:
        return  # read where it is placed, as in a merge
    with pytest.raises(LoraError) as error, LoraFile(bad) as file:
        file.load()
    assert str(error.value).startswith(f"bad.safetensors: {BAD[name].text}")


@pytest.mark.case(11)
def test_a_checkpoint_is_no_lora(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And is what the other commands take; the reverse is in the table above, with every damaged LoRA."""
    bad = tmp_path / "bad.safetensors"
    shutil.copy(good / "flux.safetensors", bad)
    for title, command in COMMANDS.items():
        if command.takes == "lora":
            assert main(arguments(command, bad, good, tmp_path / "out.safetensors")) == 1, title
            assert capsys.readouterr().err == (
                "lora-core: bad.safetensors: is a checkpoint of Flux.1 dev, not a LoRA; give it as the base, or choose "
                "a LoRA file.\n"
            )
            assert listing(tmp_path) == ["bad.safetensors"]


def test_the_good_files_are_good(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the errors above could be of anything."""
    for title, command in COMMANDS.items():
        given = good / ("lora.safetensors" if command.takes != "model" else "flux.safetensors")
        if title in ("extract --base", "extract --tuned"):
            given = good / ("flux.safetensors" if title == "extract --base" else "tuned.safetensors")
        bad = Path(shutil.copy(given, tmp_path / "bad.safetensors"))
        out = tmp_path / f"{title.replace(' ', '_')}.safetensors"
        assert main(arguments(command, bad, good, out)) == 0, f"{title}: {capsys.readouterr().err}"
        assert out.exists() == ("{out}" in command.words), title
        assert samples.partials(tmp_path) == []


HOSTILE = "../../x\0<script>alert(1)</script>\u202e\n\x1b[31m"


@pytest.mark.case(5)
def test_names_inside_a_file_never_become_paths(good: Path, tmp_path: Path) -> None:
    """A module of such a name has no place and is named; where it is kept, it is a key of the file and no more."""
    named = load(good / "lora.safetensors")
    named |= {f"{HOSTILE}.lora_up.weight": torch.ones(4, 2), f"{HOSTILE}.lora_down.weight": torch.ones(2, 4)}
    (tmp_path / "a/b").mkdir(parents=True)
    lora, out = save(tmp_path / "a/b/bad.safetensors", named), tmp_path / "a/b/o.safetensors"
    for title, command in COMMANDS.items():
        if command.takes in ("lora", "any"):
            assert main(arguments(command, lora, good, out)) == 0, title
            assert listing(tmp_path) == ["a", "a/b", "a/b/bad.safetensors", *(["a/b/o.safetensors"] * out.exists())]
            if title in ("resize", "convert"):
                assert any(HOSTILE in key for key in load(out)), title
            out.unlink(missing_ok=True)


@pytest.mark.case(29)
def test_links_are_read_and_never_written_through(good: Path, tmp_path: Path) -> None:
    """A linked models folder and a linked file are what ComfyUI reads too; an output that is a link is refused."""
    (tmp_path / "models").symlink_to(good)
    (tmp_path / "lora.safetensors").symlink_to(good / "lora.safetensors")
    before = {path.name: path.read_bytes() for path in good.iterdir()}
    out = tmp_path / "out.safetensors"
    given = ["merge", "--base", str(tmp_path / "models/flux.safetensors"), "--lora", str(tmp_path / "lora.safetensors")]
    assert main([*given, "--quiet", "--out", str(out)]) == 0
    out.unlink()
    for target in (good / "tuned.safetensors", good / "new.safetensors", good / "lora.safetensors"):
        out.symlink_to(target)
        assert main([*given, "--quiet", "--overwrite", "--out", str(out)]) == 1
        assert out.is_symlink()
        out.unlink()
    assert {path.name: path.read_bytes() for path in good.iterdir()} == before
