"""Everything that a person runs: command line, local stack, generated load, evaluation, benchmarks."""
