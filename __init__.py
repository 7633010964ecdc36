"""LoRA Core as ComfyUI loads it: the web folder, and the entry point that returns the nodes."""

import logging

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension. The host logs only the text of an exception, so the trace is logged here."""
    try:
        from .nodes import extension  # noqa: PLC0415 - pytest and packagers import this file without a host
    except Exception:
        logging.getLogger(__name__).exception("LoRA Core could not be loaded.")
        raise
    return extension()
