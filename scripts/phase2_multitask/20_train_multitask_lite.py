"""Older name of `train_multitask_lite.py`."""

import runpy

runpy.run_path(__file__.replace("20_", ""), run_name="__main__")
