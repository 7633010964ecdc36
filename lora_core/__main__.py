"""`python -m lora_core` is the command `lora-core`."""

import sys

from .cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
