"""Workers of ``benchmarks/feast_store.py``; each measured run is a process of its own."""
