"""Give numba's compiler to the other verbs: a Python function goes in, a machine-code one comes out."""

import builtins
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

# PyFlink's worker replaces `builtins.print` by a bound method, and numba's import then fails with "module
# 'pyflink.fn_execution.beam.beam_sdk_worker_main' has no attribute 'print'". The original is back while importing.
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

# Without _nrt=False (absent from numba's type stubs) numba counts a reference for each array handed to a helper, two
# atomic additions a call: the wire scanner then takes 0.35 us a span instead of 0.07.
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "_nrt": False}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def njit(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile on the first call, without the GIL and without allocation, and keep the machine code on disk.

    A kernel has no bounds check, so it checks each index itself; it allocates nothing, so it takes its scratch memory
    as an argument, which also keeps apart the subtasks that run it as threads of one process. Kernels that call each
    other stand in one module: numba renews the disk copy of a kernel only when that kernel's own file changes.
    The helpers below are compiled into their callers, whose copies outlive a change here until their files are touched.

    The disk copy lies in `__pycache__` beside the module, or else in the user's cache folder; NUMBA_CACHE_DIR goes
    before both and stays the operator's to set (an image compiles into it once). Where none can be written, each
    process compiles for itself, 4 s for the wire scanner, and nothing else changes.
    """
    try:
        compiled: Callable[_P, _R] = numba.njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # "cannot cache function: no locator available": all those folders are read-only
        compiled = numba.njit(**_OPTIONS)(function)
    return compiled


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """As `njit`, for what a hot kernel calls a few times in its text: an array handed over is seven arguments.

    The log masking kernel takes two thirds of its time with its helpers inlined.
    """
    compiled: Callable[_P, _R] = numba.njit(**_OPTIONS, forceinline=True)(function)
    return compiled


def _emitted(generate: Callable[..., Any]) -> Any:
    """A function of which numba's typing is (signature, what writes its machine code)."""
    return intrinsic(generate)


@_emitted
def load8(_: Any, array: Any, __: Any) -> Any:
    """load8(array, at): the 8 bytes of an array of uint8 from `at` on as a uint64, on x86 and ARM the first the lowest.

    Neither bound is checked. One instruction; 8 bytes read one by one are 20.
    """
    return types.uint64(array, types.intp), lambda context, build, signature, values: build.load(
        _address(context, build, signature, values), align=1
    )


@_emitted
def store8(_: Any, array: Any, __: Any, ___: Any) -> Any:
    """store8(array, at, word) writes a uint64 where load8 would read it."""

    def generate(context: Any, build: Any, signature: Any, values: Any) -> Any:
        build.store(values[2], _address(context, build, signature, values), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


@_emitted
def first_set(_: Any, __: Any) -> Any:
    """first_set(word): the place of the lowest bit of a uint64 that is set; of 0 it is not defined."""
    return types.intp(types.uint64), lambda context, build, signature, values: build.cttz(
        values[0], ir.Constant(ir.IntType(1), 1)
    )


@inlined
def copy_bytes(source: Any, first: Any, stop: Any, target: Any, at: Any) -> Any:
    """Copies source[first:stop] to target from `at` on, both of uint8, and returns the end.

    By 8 bytes: up to 7 behind both ends are read and written as well.
    """
    for place in range(first, stop, 8):
        store8(target, at + place - first, load8(source, place))
    return at + stop - first


def _address(context: Any, build: Any, signature: Any, values: Any) -> Any:
    array = context.make_array(signature.args[0])(context, build, values[0])
    return build.bitcast(build.gep(array.data, [values[1]]), ir.IntType(64).as_pointer())
