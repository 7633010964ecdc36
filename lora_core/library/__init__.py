"""What is known of LoRA files without their tensors: content hashes, trigger words, sidecar files, previews."""
