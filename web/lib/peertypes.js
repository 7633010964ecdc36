// @ts-check
/** The nodes of other packs that can be converted. Made by `python -m tests.peertypes` from lora_core. */

export const PEER_TYPES = [
    "Power Lora Loader (rgthree)",
    "Lora Loader Stack (rgthree)",
    "Lora Loader (LoraManager)",
    "Lora Stacker (LoraManager)",
    "LoRA Stacker",
    "CR LoRA Stack",
    "CR Apply LoRA Stack",
    "CR Load LoRA",
    "easy loraStack",
    "easy loraStackApply",
    "LoadLoraModel",
    "LoadLoraTextEncoder",
];
