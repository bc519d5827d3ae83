"""Prediction: from a trained run and structure files to physical properties."""
