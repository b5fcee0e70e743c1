"""vLLM runs in the tests' own process, on one thread, which is settled when torch is first loaded."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
