"""Older name of `train_multitask_pro.py`."""

import runpy

runpy.run_path(__file__.replace("22_", ""), run_name="__main__")
