"""No form of an absolute path, of a user's name or of a password stays in what we write; no other text changes."""

from __future__ import annotations

import json
import time

import pytest

from lora_core.files.private import config_without_paths, tells_paths, without_paths, without_private

pytestmark = pytest.mark.attack(16)

ME = "annabelle"
LEFT = {
    # with spaces
    r"C:\Users\First Annabelle\models\x.pt": "x.pt",
    r"C:\Users\First Annabelle": "",
    r"made of C:\Users\First Annabelle\My Models\x.pt today": "made of x.pt today",
    f"C:\\Program Files (x86)\\{ME}\\x.exe -v": "x.exe -v",
    f"/Volumes/My Disk/{ME}/x y.pt": "x y.pt",
    f"run '/home/{ME}/My Models/x.pt' now": "run 'x.pt' now",
    "in C:\\Users\\Annabelle Smith; done": "in ; done",
    f"C:\\Users\\O'Brien {ME}\\x.pt": "x.pt",
    # of users, machines and options
    f"~{ME}/x.pt": "x.pt",
    f"see ~{ME}/a/x.pt": "see x.pt",
    f"host:/home/{ME}/x.pt": "host:x.pt",
    f"{ME}@nas:/data/x.pt": "x.pt",
    f"{ME}@nas:models/x.pt": "x.pt",
    f"cc -I/home/{ME}/inc -L/opt/{ME}/lib": "cc -Iinc -Llib",
    f"-IC:\\{ME}\\inc": "-Iinc",
    f"HOME=/home/{ME}": "HOME=",
    f"PATH=/usr/bin:/home/{ME}/bin": "PATH=bin:bin",
    f"lora:/home/{ME}/x.pt:0.8": "lora:x.pt:0.8",
    # of lists
    f"['/data/{ME}/a', '/data/{ME}/b']": "['a', 'b']",
    f"/home/{ME}/a:/home/{ME}/b": "a:b",
    f"D:\\{ME}\\a, D:\\{ME}\\b;E:/{ME}/c|F:/{ME}/d": "a, b;c|d",
    f"a,\\\\nas\\{ME}\\x,\\\\nas\\{ME}\\y": "a,x,y",
    f"(/home/{ME}/a) [/home/{ME}/b] {{/home/{ME}/c}} </home/{ME}/d>": "(a) [b] {c} <d>",
    # of systems
    f"\\Users\\{ME}\\x.pt": "x.pt",
    f"to \\Users\\{ME}\\x.pt": "to x.pt",
    f"\\\\nas\\{ME}\\x.pt": "x.pt",
    f"\\\\?\\C:\\{ME}\\x.pt": "x.pt",
    f"\\\\wsl$\\Ubuntu\\home\\{ME}\\x.pt": "x.pt",
    f"/mnt/c/Users/{ME}": "",
    f"/c/Users/{ME}/x.pt": "x.pt",
    f"C:/Users/{ME}/x.pt": "x.pt",
    f"/root/{ME}/x.pt": "x.pt",
    # of addresses
    f"file:///home/{ME}/x.pt": "x.pt",
    f"smb://nas/{ME}/x.pt": "x.pt",
    f"ssh://{ME}@nas:22/home/{ME}/x.pt": "x.pt",
    f"https://{ME}:hf_abc@example.org/a/b": "https://example.org/a/b",
    f"https://{ME}@example.org/a": "https://example.org/a",
    "https://example.org/a?id=1&token=abc": "https://example.org/a?id=1&token=",
    f"http://localhost/view?name=/home/{ME}/x.png&n=1": "http://localhost/view?name=x.png&n=1",
    f"%2Fhome%2F{ME}%2Fx.png": "x.png",
    f"name=C%3A%5CUsers%5C{ME}%5Cx.png": "name=x.png",
    f"%252Fhome%252F{ME}%252Fx.png": "x.png",
    # in JSON
    json.dumps([f"/a/{ME}", {f"/b/{ME}/k": f"~{ME}/v"}]): json.dumps([ME, {"k": "v"}]),
    json.dumps({"a": json.dumps({"b": json.dumps(f"C:\\Users\\{ME} x\\f.pt")})}):
        json.dumps({"a": json.dumps({"b": json.dumps("f.pt")})}),
    '{"a" :  "\\u002fhome\\u002f' + ME + '\\/x.pt",\n "b": 1.50}': '{"a" :  "x.pt",\n "b": 1.50}',
}  # fmt: skip
KEPT = [
    "^(?!.*\\.to_q)(.*\\.blocks\\.\\d+)", r".*\.(to_k|to_q)$", r"(?:\bfoo\b)", "naruto \\(series\\)",
    "<b>x</b>/<i>y</i>", "+/a/b+/c/d",
    "x:/", ":/", ">:\\", "N/A", "AC/DC", "1/2", "w/ and w/o", "/", "//", "a // b", "10:30/11:40",
    "see https://example.org/a/b/c and 1/2/3", "hf://org/repo/x", "https://civitai.com/models/1/x?modelVersionId=5",
    "stabilityai/sdxl-base", "./a/b/c", "../x/y/z", "models/loras/x.safetensors", "/imagine a cat/dog", "24/7 /s",
    "git@github.com:org/repo.git", "100%25", "http%3A%2F%2Fexample.org%2Fa", "data:image/png;base64,/9j/4AAQ/SkZJ/a=",
    "/9j/" + "4AAQSkZJRgABAQ/+" * 10 + "==", '{"a": "b/c",  "d" : [1.0, "e\\/f"]}', '{"a": "x/y"',
]  # fmt: skip


@pytest.mark.parametrize("text", LEFT)
def test_a_path_leaves_its_last_name(text: str) -> None:
    left = without_paths(text)
    assert left == LEFT[text]
    assert without_paths(left) == left
    assert without_private({"key": text, text: "value"}) == {"key": left, left: "value"}


@pytest.mark.parametrize("text", KEPT)
def test_other_texts_stay_to_the_letter(text: str) -> None:
    assert without_paths(text) == text


def test_a_text_in_texts_in_texts_is_still_clean() -> None:
    text = f"C:\\Users\\{ME}\\x.pt"
    for _ in range(12):
        text = json.dumps({"a": text})
    assert ME not in without_paths(text)


WORST = [
    "/", "\\", "/a", "/a/", "\\a", "C:\\", "C:\\a ", "/home/", "/home/a ", "a b ", "'", '"/', "'/a", "~", "~a/",
    "a@a", "a@a:", "a.", "://", "a://", "%2F", "%2Fa", "%25", "%5Ca", "-I", "-I/", "data:a/a;", "A", "/A", "(", "/a (",
    "\\Users\\a", "&key", "?token=", "https://a@", "https://?a=", "=/", "file:", '["', '\\"', "a'", "/home/A A",
    " A", "\n",
    ",/a", "%26", "x/y ",
]  # fmt: skip


@pytest.mark.parametrize("begin", ["", "/home/", '"/', "C:\\a", '["'])
def test_time_grows_with_the_length(begin: str) -> None:
    """A hundred times the text takes a hundred times as long; with a step for each pair of letters, 10,000 times."""

    def seconds(text: str) -> float:
        start = time.process_time()
        without_paths(text)
        return time.process_time() - start

    for unit in WORST:
        times = [seconds(begin + unit * (count * 200 // len(unit))) for count in (1, 1, 100)]
        assert times[-1] < 1000 * max(min(times[:2]), 1e-4), unit


def test_configurations_lose_paths_alone() -> None:
    text = json.dumps(
        {"_name_or_path": f"/home/{ME}/My Models/sdxl", "template": "</s>/a/b <|/x/y|>", "path": "a/b"}, indent=4
    )
    assert config_without_paths(text) == text.replace(f"/home/{ME}/My Models/sdxl", "sdxl")
    names = ("config.json", "model_index.json", "scheduler_config.json", "tokenizer_config.json")
    assert all(map(tells_paths, names))
    assert not any(map(tells_paths, ("vocab.json", "tokenizer.json", "README.md", "merges.txt")))


@pytest.mark.parametrize("broken", ['"\\q/home/a"', '"/home/a', '"/home/a\\', '"\\"/home/a'])
def test_what_is_no_json_in_a_configuration_stays(broken: str) -> None:
    assert config_without_paths('{"a": "/home/me/x", "b": ' + broken) == '{"a": "x", "b": ' + broken


def test_a_text_of_a_configuration_without_an_end_is_read_once() -> None:
    start = time.process_time()
    config_without_paths('"' + '\\"' * 100_000)
    assert time.process_time() - start < 20  # from each of its quotes to the end: 10,000,000,000 signs
