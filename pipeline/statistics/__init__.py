"""Estimates, intervals and tests: NumPy and SciPy alone, no PyTorch."""
