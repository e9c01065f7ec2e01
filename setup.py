"""The part of the build that pyproject.toml cannot say: the C core, built by cffi. All else stands there."""

from __future__ import annotations

from setuptools import setup

setup(
    cffi_modules=["native/build_native.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
