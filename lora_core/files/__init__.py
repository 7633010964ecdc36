"""Files of tensors: what they hold, reading them by position, writing them whole or not at all."""
