"""Console verbs: parse, call the package, return the exit code. `--help` never imports torch."""
