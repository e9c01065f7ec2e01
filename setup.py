"""The part of the build that pyproject.toml cannot say: the C core, built by cffi. All else stands there."""

from __future__ import annotations

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExtension(build_ext):
    """As setuptools builds, but with no search path in the result, whatever the interpreter was linked with: the core
    needs system libraries alone, and finds them where the system has them."""

    def build_extensions(self) -> None:
        linker: list[str] = self.compiler.linker_so
        self.compiler.set_executables(linker_so=[word for word in linker if not word.startswith("-Wl,-rpath")])
        super().build_extensions()


setup(
    cffi_modules=["native/build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
