"""Our flattening of saved workflows beside the page's `graphToPrompt`: `python -m tests.flattening [FOLDER ...]`."""
