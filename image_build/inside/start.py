"""`start.py MODULE ARGUMENTS`: run a module of the image as a program."""

import runpy
import sys

sys.path.append("/opt/anchorhold/site")
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
