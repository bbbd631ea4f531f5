"""Layer 5, the rim: each stage reads its inputs, calls one room, and commits its output whole.

A stage is a function ``stage(config, ...) -> dict`` whose result is JSON-able and says what was made or skipped. A
stage whose inputs and configuration are what its output was made from is skipped. The command line, the Spark jobs
and the demo only call stages.
"""
