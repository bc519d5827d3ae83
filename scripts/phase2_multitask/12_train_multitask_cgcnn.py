"""Older name of `train_multitask_cgcnn.py`."""

import runpy

runpy.run_path(__file__.replace("12_", ""), run_name="__main__")
