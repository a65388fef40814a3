"""``python -m pipeline COMMAND``."""

import gc
import sys

# What is imported stays: to look through it for garbage every 700 objects, as Python does, takes a
# seventh of the time in which a stage starts.
gc.set_threshold(100_000)

from pipeline.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
