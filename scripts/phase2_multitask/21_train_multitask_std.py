"""Older name of `train_multitask_std.py`."""

import runpy

runpy.run_path(__file__.replace("21_", ""), run_name="__main__")
