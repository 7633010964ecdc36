"""PyTorch files (.ckpt, .pt, .pth, .bin), read without pickle and without running anything that they name."""
