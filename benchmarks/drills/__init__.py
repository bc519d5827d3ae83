"""Drills of reliability: each breaks something on purpose and counts what was tried and what went wrong."""
