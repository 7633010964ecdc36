"""Threads, reading ahead, the pipeline of a merge, and progress."""
