"""Compilation of Python functions to machine code with numba."""

import builtins
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

# PyFlink's worker replaces `builtins.print` by a bound method, and numba's import then fails with "module
# 'pyflink.fn_execution.beam.beam_sdk_worker_main' has no attribute 'print'". The original is restored for the import.
_print: Final = builtins.print
builtins.print = getattr(getattr(_print, "__self__", None), "_print", _print)
try:
    import numba
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic
finally:
    builtins.print = _print

__all__ = ["copy_bytes", "first_set", "inlined", "load8", "njit", "store8"]

# Without _nrt=False (absent from numba's type stubs) numba counts references of each array that is passed to a helper,
# with two atomic additions a call: the wire scanner then takes 0.35 us a span instead of 0.07.
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "_nrt": False}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def njit(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function on its first call, without the GIL and without allocation; store the machine code on disk.

    A kernel has no bounds check, so it checks each index itself. It allocates nothing, so it takes its scratch memory
    as an argument; this also separates the subtasks that run it as threads of one process. Kernels that call each
    other must be in one module: numba renews the disk copy of a kernel only when the file of that kernel changes.
    The helpers below are compiled into their callers. After a change of a helper, the disk copies of its callers stay
    old until their files change too.

    The disk copy is in `__pycache__` beside the module, or else in the user's cache folder. NUMBA_CACHE_DIR has
    priority over both; only the operator sets it (an image compiles into it once). Where no folder can be written,
    each process compiles for itself, which takes 4 s for the wire scanner; nothing else changes.
    """
    try:
        compiled: Callable[_P, _R] = numba.njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available": all those folders are read-only
        compiled = numba.njit(**_OPTIONS)(function)
    return compiled


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile as `njit` does, and inline into the caller: for helpers that a hot kernel calls at a few places.

    An array that is passed to a function becomes seven arguments. With inlined helpers the log masking kernel takes two
    thirds of the time.
    """
    compiled: Callable[_P, _R] = numba.njit(**_OPTIONS, forceinline=True)(function)
    return compiled


def _emitted(generate: Callable[..., Any]) -> Any:
    """Make a numba function from its typing function, which returns (signature, generator of machine code)."""
    return intrinsic(generate)


@_emitted
def load8(_: Any, array: Any, __: Any) -> Any:
    """Return 8 bytes as a uint64: load8(array, at) reads an array of uint8 from index `at` on.

    On x86 and ARM the first byte is the lowest. Neither bound is checked. It is one instruction; to read 8 bytes one by
    one takes 20.
    """
    return types.uint64(array, types.intp), lambda context, build, signature, values: build.load(
        _address(context, build, signature, values), align=1
    )


@_emitted
def store8(_: Any, array: Any, __: Any, ___: Any) -> Any:
    """Write 8 bytes: store8(array, at, word) writes a uint64 to the place from which load8 reads it."""

    def generate(context: Any, build: Any, signature: Any, values: Any) -> Any:
        build.store(values[2], _address(context, build, signature, values), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


@_emitted
def first_set(_: Any, __: Any) -> Any:
    """Return the index of the lowest bit that is set in a uint64: first_set(word). It is undefined for 0."""
    return types.intp(types.uint64), lambda context, build, signature, values: build.cttz(
        values[0], ir.Constant(ir.IntType(1), 1)
    )


@inlined
def copy_bytes(source: Any, first: Any, stop: Any, target: Any, at: Any) -> Any:
    """Copy source[first:stop] to target from index `at` on, both of uint8; return the end of the copy in target.

    It copies 8 bytes at a time, so up to 7 bytes behind both ends are read and written as well.
    """
    for place in range(first, stop, 8):
        store8(target, at + place - first, load8(source, place))
    return at + stop - first


def _address(context: Any, build: Any, signature: Any, values: Any) -> Any:
    array = context.make_array(signature.args[0])(context, build, values[0])
    return build.bitcast(build.gep(array.data, [values[1]]), ir.IntType(64).as_pointer())
