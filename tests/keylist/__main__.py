"""How a new model comes in: its key lists into tests/data, a proposal for lora_core/arch, and what is still missing.

    python -m tests.keylist checkpoint NAME [FILE] [--prefix model.diffusion_model.] [--diffusers FILE ...]
        [--diffusers-class CLASS [--config FILE.json]]
    COMFYUI/.venv/bin/python -m tests.keylist host NAME COMFYUI CLASS FILE.json
    COMFYUI/.venv/bin/python -m tests.keylist aliases NAME COMFYUI
    python -m tests.keylist trainer TRAINER-NAME FILE --how "kohya's train_network.py, 48d368fa, --network_dim 4"
        [--dialect DIALECT] [--kind KIND]
    python -m tests.keylist propose NAME ... [--id ID] [--title TITLE] [--write]
    python -m tests.keylist check NAME ...

NAME is the architecture's or edition's id; TRAINER-NAME a word for the trainer, a hyphen and that id. Only the header
of a file is read; a .json is such a header, or {name: shape}. The diffusers files are the shards of the same model
there; or CLASS is its class there, with its configuration or the defaults. `host` builds the class of ComfyUI's
supported_models with what its detection finds in such a file (`unet_config`). DIALECT and KIND are what a report has to
say of the file: a dialect's id, and a kind's name. The aliases are what ComfyUI, in the folder COMFYUI, accepts for the
key list. `propose` compares the lists of one model, several if it has editions, and prints its file for lora_core/arch;
`--write` puts it there. `check` says what of it is missing, and fails if anything is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.keylist import fixtures


def main() -> None:
    options = _parser().parse_args()
    if options.command == "propose":
        from tests.keylist import writing

        writing.propose(options.names, options.id, options.title, options.write)
    elif options.command == "check":
        from tests.keylist import checking

        missing = [f"{name}: {line}" for name in options.names for line in checking.check(name)]
        sys.stdout.writelines(line + "\n" for line in missing or ["nothing is missing"])
        sys.exit(bool(missing))
    else:
        kinds = {one.__name__: one for one in (fixtures.checkpoint, fixtures.host, fixtures.trainer, fixtures.aliases)}
        fixtures.write(fixtures.FOLDERS[options.command], options.name, kinds[options.command](options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("checkpoint")
    one.add_argument("name")
    one.add_argument("file", type=Path, nargs="?")
    one.add_argument("--prefix", default="")
    one.add_argument("--diffusers", type=Path, nargs="*", default=[])
    one.add_argument("--diffusers-class", default="")
    one.add_argument("--config", type=Path)
    one = commands.add_parser("host")
    one.add_argument("name")
    one.add_argument("folder", type=Path)
    one.add_argument("of_class")
    one.add_argument("config", type=Path)
    one = commands.add_parser("aliases")
    one.add_argument("name")
    one.add_argument("folder", type=Path)
    one = commands.add_parser("trainer")
    one.add_argument("name")
    one.add_argument("file", type=Path)
    for flag, place in (("--how", "how"), ("--dialect", "dialect"), ("--kind", "adapter")):
        one.add_argument(flag, default="", dest=place)
    one = commands.add_parser("propose")
    one.add_argument("names", nargs="+")
    one.add_argument("--id", default="")
    one.add_argument("--title", default="")
    one.add_argument("--write", action="store_true")
    commands.add_parser("check").add_argument("names", nargs="+")
    return parser


if __name__ == "__main__":
    main()
