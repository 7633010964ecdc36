"""What is in a LoRA file: its changes, their sizes and spectra, how it fits a model, how LoRAs agree."""
