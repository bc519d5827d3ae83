"""Older name of `train_singletask.py --level pro`."""

import runpy
import sys

sys.argv[1:1] = ["--level", "pro"]
runpy.run_path(__file__.replace("32_train_singletask_pro", "train_singletask"), run_name="__main__")
