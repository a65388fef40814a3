"""One thread for each of the processes that test: they are as many as there are cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch and NumPy start theirs
