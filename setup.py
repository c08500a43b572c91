"""Removes what an earlier build left, so that modules that are gone do not come back."""

import shutil

from setuptools import setup

shutil.rmtree("build", ignore_errors=True)
setup()
