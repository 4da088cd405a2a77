"""How fast, beside others: `make bench`, or `python -m benchmarks --help`. What is measured stands in `cases`, how in `measure`."""
