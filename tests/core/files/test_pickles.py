"""PyTorch files: tensors come in, nothing runs, and what claims more than it holds is refused before it is believed."""

from __future__ import annotations

import collections
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lora_core
from lora_core.errors import FileFormatError
from lora_core.files.opening import open_tensors
from lora_core.files.pytorch.pytorchfile import PickledFile
from tests import tiny
from tests.core import samples


class Payload:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def wan(folder: Path) -> tuple[Path, Path]:
    base = tiny.make_tiny("wan21", folder / "base.safetensors", dtype=torch.bfloat16)
    return base, tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "single key"])
def test_a_pickled_base_and_lora_merge_as_their_safetensors(tmp_path: Path, wrap: str) -> None:
    base, lora = wan(tmp_path)
    expected = tmp_path / "expected.safetensors"
    lora_core.merge(base, [lora], expected)
    whole: dict[str, Any] = dict(load_file(base))
    whole["blocks.0.self_attn.q.weight"] = whole["blocks.0.self_attn.q.weight"].t().contiguous().t()  # not in order
    if wrap == "state_dict":
        whole = {"state_dict": whole, "epoch": 3, "optimizer_states": [torch.ones(3)]}
    elif wrap == "single key":
        whole = {"params": whole}
    torch.save(whole, tmp_path / "base.ckpt")
    torch.save(load_file(lora), tmp_path / "lora.bin")
    report = lora_core.merge(tmp_path / "base.ckpt", [tmp_path / "lora.bin"], tmp_path / "out.safetensors")
    found, wanted = samples.load(tmp_path / "out.safetensors"), samples.load(expected)
    assert found.keys() == wanted.keys()
    assert [name for name in found if not samples.same_bytes(found[name], wanted[name])] == []
    ignored = ["base.ckpt: 2 values ignored, not tensors of the model: epoch, optimizer_states."]
    assert report.warnings == (ignored if wrap == "state_dict" else [])
    assert lora_core.inspect(tmp_path / "lora.bin").loras[0].modules_total == len(tiny.modules("wan21"))
    assert lora_core.inspect(tmp_path / "base.ckpt").title == lora_core.inspect(base).title
    assert lora_core.trigger_words(tmp_path / "lora.bin") == []


def test_a_tensor_owns_its_memory(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(3)}, tmp_path / "x.pt")
    with PickledFile(tmp_path / "x.pt") as file:
        file.tensor("x").zero_()
        assert file.tensor("x").tolist() == [1, 1, 1]
        assert (file["x"].dtype, file["x"].shape, file.scalar) and file["x"].nbytes == 12


def test_tensors_that_share_a_storage_or_lie_crosswise_in_it_are_read(tmp_path: Path) -> None:
    """Read by position: from the first element to the last, whatever the order in memory."""
    whole = torch.arange(24.0).reshape(4, 6)
    given: dict[str, torch.Tensor] = {
        "whole": whole, "rows": whole[1:3], "across": whole.t(), "column": whole[:, 2], "steps": whole[::2, 1::3],
        "wide": whole[1:2].expand(4, 6), "half": whole.half()[2:], "nothing": whole[:0], "one": whole[3, 5],
        "whole numbers": torch.arange(3), "trained": torch.nn.Parameter(whole[2:]),
    }  # fmt: skip
    torch.save(given, tmp_path / "x.pt")
    with PickledFile(tmp_path / "x.pt") as file:
        assert {name: samples.same_bytes(file.tensor(name), value.detach()) for name, value in given.items()} == (
            dict.fromkeys(given, True)
        )
        assert all(file.tensor(name).is_contiguous() for name in given)


def runs_a_command(path: Path) -> None:
    torch.save({"x": torch.ones(2), "y": Payload(path.with_name("mark"))}, path)


def hidden_in_a_list(path: Path) -> None:
    torch.save({"state_dict": {"x": torch.ones(2)}, "more": [[Payload(path.with_name("mark"))]]}, path)


def deflated(path: Path) -> None:
    torch.save({"x": torch.zeros(2**21)}, path.with_name("plain.pt"))
    with zipfile.ZipFile(path.with_name("plain.pt")) as there, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as here:
        for member in there.infolist():
            here.writestr(member.filename, there.read(member))
    path.with_name("plain.pt").unlink()


def stride_zero(path: Path) -> None:
    torch.save({"x": torch.ones(1).expand(10**6, 10**6)}, path)


def many_views(path: Path) -> None:
    one = torch.ones(1000)
    torch.save({f"x{number}": one for number in range(100)}, path)


def without_storage(path: Path) -> None:
    torch.save({"x": torch.empty(10**6, 10**6, device="meta")}, path)


def sparse(path: Path) -> None:
    torch.save({"x": torch.ones(2, 2).to_sparse()}, path)


def legacy(path: Path) -> None:
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": Payload(path.with_name("mark"))}, protocol=2))


def cut(path: Path) -> None:
    torch.save({"x": torch.ones(2000)}, path)
    path.write_bytes(path.read_bytes()[:-100])


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "precious")


def no_tensors(path: Path) -> None:
    torch.save({"x": 3, "y": "text"}, path)


def in_itself(path: Path) -> None:
    whole: dict[str, Any] = {}
    whole["state_dict"] = whole
    torch.save(whole, path)


def false_size(path: Path) -> None:
    """The archive's list claims a member far larger than the file."""
    torch.save({"x": torch.ones(2000)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)


def rewritten(path: Path, change: Callable[[str, bytes], list[bytes]]) -> None:
    """A file that torch.save wrote, each member given as `change` wants it: several times, changed, or not at all."""
    plain = path.with_name("plain.pt")
    torch.save({"x": torch.ones(2000)}, plain)
    with zipfile.ZipFile(plain) as there, zipfile.ZipFile(path, "w") as here, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there twice
        for member in there.infolist():
            for content in change(member.filename, there.read(member)):
                here.writestr(member.filename, content)
    plain.unlink()


def small_member(path: Path) -> None:
    """What is there is less than the structure says, though the file is longer than that."""

    def change(name: str, content: bytes) -> list[bytes]:
        return [content[:100] if name.endswith("data/0") else content + bytes(9000 * name.endswith(".pkl"))]

    rewritten(path, change)


def no_member(path: Path) -> None:
    rewritten(path, lambda name, content: [] if name.endswith("data/0") else [content])


def two_members(path: Path) -> None:
    rewritten(path, lambda name, content: [content] * (2 if name.endswith("data/0") else 1))


def other_byte_order(path: Path) -> None:
    rewritten(path, lambda name, content: [b"big" if name.endswith("byteorder") else content])


def member_beyond_the_end(path: Path) -> None:
    """The list is in its place, and says that a member begins just before it."""
    torch.save({"x": torch.ones(2000)}, path)
    content = bytearray(path.read_bytes())
    entry = content.index(b"data/0", content.index(b"PK\x01\x02")) - 46 - len(path.stem) - 1
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + 42 : entry + 46] = (len(content) - 40).to_bytes(4, "little")
    path.write_bytes(content)


class Misused:
    """What the reader allows, called with what it is not made for."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.reduced = function, given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def misused_tensor(path: Path) -> None:
    torch.save({"x": Misused(torch._utils._rebuild_tensor_v2, "no", "storage", 1, 2, 3, 4)}, path)


def misused_dict(path: Path) -> None:
    torch.save({"x": Misused(collections.OrderedDict, 5)}, path)


def negative_stride(path: Path) -> None:
    storage = torch.ones(10)._typed_storage()
    torch.save({"x": Misused(torch._utils._rebuild_tensor_v2, storage, 9, (10,), (-1,), False, None)}, path)


def beyond_its_storage(path: Path) -> None:
    storage = torch.ones(10)._typed_storage()
    torch.save({"x": Misused(torch._utils._rebuild_tensor_v2, storage, 5, (10,), (1,), False, None)}, path)


BROKEN: dict[Callable[[Path], None], str] = {
    small_member: "bad.pt: holds more than tensors, or is broken, and is not loaded (the storage '0' claims 2000 elem",
    no_member: "bad.pt: holds more than tensors, or is broken, and is not loaded (no member holds the storage '0'); ",
    two_members: "bad.pt: the archive has two members of one name; convert it to safetensors.",
    other_byte_order: "bad.pt: is not in the byte order of this machine; convert it to safetensors.",
    member_beyond_the_end: "bad.pt: broken PyTorch file: 'bad/data/0' lies beyond its end; download or copy it again.",
    misused_tensor: "bad.pt: holds more than tensors, or is broken, and is not loaded (",
    misused_dict: "bad.pt: holds more than tensors, or is broken, and is not loaded (",
    negative_stride: "bad.pt: tensor 'x' claims 76 bytes, its storage has 40; the file is made to harm.",
    beyond_its_storage: "bad.pt: tensor 'x' claims 60 bytes, its storage has 40; the file is made to harm.",
    runs_a_command: "bad.pt: holds more than tensors, or is broken, and is not loaded (",
    hidden_in_a_list: "bad.pt: holds more than tensors, or is broken, and is not loaded (",
    deflated: "bad.pt: ",
    stride_zero: "bad.pt: tensor 'x' claims 4000000000000 bytes, its storage has 4; the file is made to harm.",
    many_views: "bad.pt: its tensors claim 400000 bytes, the file has ",
    without_storage: "bad.pt: tensor 'x' is not a plain one; convert it to safetensors.",
    sparse: "bad.pt: tensor 'x' is not a plain one; convert it to safetensors.",
    legacy: "bad.pt: expected a safetensors file, found a pickled PyTorch file; convert it to safetensors first.",
    plain_pickle: "bad.pt: expected a safetensors file, found a pickled PyTorch file; convert it to safetensors first.",
    cut: "bad.pt: broken PyTorch file: File is not a zip file; download or copy it again.",
    other_zip: "bad.pt: is a zip archive, but not a PyTorch file of tensors; convert it to safetensors.",
    no_tensors: "bad.pt: expected 1 to 100000 named tensors, found 0; convert it to safetensors.",
    in_itself: "bad.pt: expected 1 to 100000 named tensors, found 0; convert it to safetensors.",
    false_size: "bad.pt: its members claim ",
}


@pytest.mark.case(13, 14)
@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_a_bad_pickle_is_one_clear_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    bad = tmp_path / "bad.pt"
    make(bad)
    text = samples.message(FileFormatError, lambda: open_tensors(bad))
    assert text.startswith(BROKEN[make])
    if make is deflated:
        assert " of the archive compressed, e.g. " in text
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_x": (4, 4)}, 2)
    for base, stack in ((bad, lora), (lora, bad)):
        with pytest.raises(lora_core.LoraError):
            lora_core.merge(base, [stack], tmp_path / "out.safetensors")
    assert samples.listing(tmp_path) == ["bad.pt", "lora.safetensors"]  # and no mark of a payload


@pytest.mark.case(13)
def test_the_payload_would_run(tmp_path: Path) -> None:
    """Else the tests above show nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()
