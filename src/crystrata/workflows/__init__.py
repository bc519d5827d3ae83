"""Workflows: what a person starts."""
