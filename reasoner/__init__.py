"""What a person runs: command line, local stack, load, evaluation, benchmarks."""
