"""Faults on purpose: kills, power cuts, full disks and cancels at many points of every writing operation.

`python -m tests.faults` (`make faults`) runs the whole campaign; a few points of each run among the tests of the core.
"""
