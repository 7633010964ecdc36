"""The package that the registry takes: what is in it, and that its scanner finds nothing, in code, comments or text.

The registry flags a version at any match of its rules and does not publish them; the patterns here are those that
publishers have reported, and wider. A match is mended in the product: there is no list of exceptions.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tests import archive

pytestmark = pytest.mark.skipif(not archive.is_possible(), reason="the package is made of what git tracks")

FOLDERS = {"example_workflows", "locales", "lora_core", "nodes", "web"}
FILES = {"CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "pyproject.toml", "requirements.txt"}
SUFFIXES = {
    "example_workflows": {".json", ".jpg"},
    "locales": {".json"},
    "lora_core": {".py", ".json"},
    "nodes": {".py"},
    "web": {".js", ".md", ".jpg"},
}
PICTURES = {".jpg": b"\xff\xd8\xff"}
LARGEST = 4_000_000  # bytes, compressed
LARGEST_TEXT = 60_000  # bytes of one file of text: what is longer, nobody reads

BANNED = {
    "network": r"\.(connect|bind|send|sendto)\s*\(",
    "network modules": r"\b(import|from)\s+(socket|ssl|requests|urllib3|httpx|http|ftplib|smtplib|telnetlib)\b",
    "network calls": r"\brequests\.|urllib\.request|urlopen|urlretrieve|http\.client|ClientSession|socket\.socket|"
    r"XMLHttpRequest|new\s+WebSocket|sendBeacon|EventSource|create_connection|open_connection",
    "evaluated code": r"\beval\b|\bexec\s*\(|execfile|new\s+Function\b|\bset(Timeout|Interval)\(\s*[\"'`]",
    "compiled code": r"(?<!\bre\.)\bcompile\s*\(|\bopen_code\b|\bmarshal\b|co_code|CodeType|FunctionType|\.pyc\b",
    "imports by name": r"__import__|importlib|runpy|pkgutil|imp\.load|__builtins__|__subclasses__",
    "commands": r"subprocess|\bPopen\b|os\.(system|popen|exec|spawn|startfile)|\bpty\b|getoutput|shell\s*=\s*True|"
    r"\b(bash|powershell|pwsh|cmd\.exe|cmd /c|curl|wget|netcat|crontab)\b",
    "removed files": r"rm\s+-(rf|fr)|rmdir\s+/s|del\s+/[fsq]|\bformat\s+c:",
    "environment": r"\benviron\b|os\.putenv|getenv|process\.env",
    "foreign functions": r"\bctypes\b|\bcffi\b|\bdlopen\b|WinDLL|CDLL|\bwinreg\b|LoadLibrary",
    "unpickled objects": r"pickle\.(loads?|Unpickler)\b|cPickle|\bdill\b|cloudpickle|joblib|\bshelve\b|yaml\.load\b|"
    r"import\s+pickle|weights_only\s*=\s*False",
    "decoded text": r"base64\.|import\s+base64|b64decode|\b(atob|btoa)\s*\(|fromhex|unhexlify|codecs\.decode|"
    r"rot13|zlib\.decompress|String\.fromCharCode|data:[a-z]+/",
    "long blobs": r"[A-Za-z0-9+/]{100,}|(\\x[0-9a-fA-F]{2}){10,}|(\\u[0-9a-fA-F]{4}){20,}",
    "installers": r"pip\s+install\s+(?!-r requirements\.txt|\"\.\[cli\]\")|ensurepip|easy_install|npm\s+install",
    "markup as code": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|ContextualFragment|srcdoc",
    "secrets": r"AKIA[0-9A-Z]{16}|(ghp|hf)_[A-Za-z0-9]{20,}|-----BEGIN|api[_-]?key\s*[=:]|password\s*[=:]",
    "people's folders": r"/home/\w+|/root/|/Users/\w+|[A-Z]:\\\\Users",
}
SAMPLES = {  # one text for each rule that it has to find
    "network": "node.connect(0, other, 0)",
    "network modules": "    import socket",
    "network calls": "requests.get(url)",
    "evaluated code": "const m = /a/.exec(text)",
    "compiled code": "code = compile(text, name, 'single')",
    "imports by name": "importlib.import_module(name)",
    "commands": "os.system('ls')",
    "removed files": "# then rm -rf the folder",
    "environment": 'os.environ["A"] = "1"',
    "foreign functions": "import ctypes",
    "unpickled objects": "pickle.loads(data)",
    "decoded text": "base64.b64decode(text)",
    "long blobs": "A1b2" * 40,
    "installers": "pip install something",
    "markup as code": "root.innerHTML = name",
    "secrets": "ghp_" + "a" * 36,
    "people's folders": "/home/alice/models",
}
WEB_ADDRESSES = {  # in code: a namespace that no browser opens, how a Git LFS pointer begins, the source of a format
    "http://www.w3.org/2000/svg",
    "https://git-lfs",
    "https://docs.nvidia.com/cuda/cublas/index.html#d-block-scaling-factors-layout",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    archive.write(folder / "node.zip")
    assert (folder / "node.zip").stat().st_size < LARGEST
    with zipfile.ZipFile(folder / "node.zip") as packed:
        packed.extractall(folder / "lora-core")
    return folder / "lora-core"


def _files(package: Path) -> list[str]:
    return sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file())


def _texts(package: Path) -> dict[str, str]:
    names = [name for name in _files(package) if Path(name).suffix not in PICTURES]
    return {name: (package / name).read_text(encoding="utf-8") for name in names}


@pytest.mark.case(38)
def test_it_holds_what_comfyui_needs_and_nothing_else(package: Path) -> None:
    assert {path.name for path in package.iterdir()} == FOLDERS | FILES
    for name in _files(package):
        folder, *rest = Path(name).parts
        assert not rest or Path(name).suffix in SUFFIXES[folder], name
    assert [name for name in _files(package) if re.search(r"(?i)test|benchmark|\.sh$|(^|/)\.|conftest", name)] == []


def test_it_holds_everything_that_runs(package: Path) -> None:
    sources = [path for folder in ("lora_core", "nodes") for path in (archive.REPO / folder).rglob("*.py")]
    sources += [*(archive.REPO / "web").rglob("*.js"), *(archive.REPO / "lora_core").rglob("*.json")]
    names = set(archive.files())
    absent = [path.relative_to(archive.REPO).as_posix() for path in sources]
    assert [name for name in absent if name not in names] == [], "not tracked by git, or named by .comfyignore"


def test_files_are_what_their_names_say(package: Path) -> None:
    for name in _files(package):
        content = (package / name).read_bytes()
        start = PICTURES.get(Path(name).suffix)
        if start is None:
            assert len(content) < LARGEST_TEXT and b"\0" not in content, name
            content.decode("utf-8")
        else:
            assert content.startswith(start), name


@pytest.mark.case(38)
@pytest.mark.parametrize("rule", BANNED)
def test_the_scanner_finds_nothing(package: Path, rule: str) -> None:
    pattern = re.compile(BANNED[rule])
    assert pattern.search(SAMPLES[rule]), "the rule itself finds nothing"
    found = [
        f"{name}:{number}: {line.strip()[:160]}"
        for name, text in _texts(package).items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_code_names_no_other_address(package: Path) -> None:
    texts = {name: text for name, text in _texts(package).items() if Path(name).suffix in {".py", ".js"}}
    found = {address for text in texts.values() for address in re.findall(r"https?://[\w.][^\s\"'`)]*", text)}
    assert found == WEB_ADDRESSES


def test_windows_consoles_can_show_every_character_of_the_code(package: Path) -> None:
    """What ComfyUI logs goes through the console's encoding, cp1252 in the west, and fails there on other signs."""
    found = {}
    for name, text in _texts(package).items():
        strange = {sign for sign in text if not sign.isascii() and not sign.encode("cp1252", "ignore")}
        if strange and name.endswith(".py"):
            found[name] = "".join(sorted(strange))
    assert found == {}
