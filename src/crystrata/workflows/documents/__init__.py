"""Runs as YAML files write them: a model, its data and a trainer, each with the arguments of a constructor."""
