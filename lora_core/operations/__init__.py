"""What LoRA Core does with files, one package each; no operation imports another."""
