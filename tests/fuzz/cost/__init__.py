"""Inputs that cost too much: a reader may use what a stated function of its size allows.

A coverage-guided fuzzer finds new branches, not loops that go round too often: its inputs are small. Here inputs are
grown instead, by repeating and nesting pieces of honest ones, and each is measured in a process of its own.
"""
