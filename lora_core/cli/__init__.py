"""The command line: parsers and calls of the commands, their output, interrupts, and the demo."""
