"""Fuzzer of all decoders: `python tests/fuzz/fuzz_decoders.py -max_total_time=20 [corpus folder]`.

The options are those of libFuzzer.

NUMBA_DISABLE_JIT=1 runs the kernels as plain Python: slower, but libFuzzer then sees their branches and finds inputs
that reach them. Run the corpus made that way once without the variable.

Needs atheris, which is not among the project's dependencies: `pip install atheris==3.0.0`. Bounds checks are compiled
into the kernels here, so a read outside of a message raises an exception. Any exception is a finding: libFuzzer writes
the input to a file `crash-*`, and this file as argument repeats it.
"""

import os
import sys
import tempfile
from pathlib import Path

# Set before numba is imported. The separate folder keeps kernels with bounds checks apart from those without.
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / "metric-reasoner-fuzz-kernels")
sys.path.insert(0, str(Path(__file__).parents[2]))

import atheris  # type: ignore[import-untyped]  # installed by hand

# numba cannot compile instrumented code.
_KERNELS = (
    [] if os.environ.get("NUMBA_DISABLE_JIT") == "1" else ["udfs.otlp.span_scanner_kernels", "udfs.otlp.span_names"]
)
with atheris.instrument_imports(include=["udfs", "tests"], exclude=_KERNELS):
    from state_schemas.contracts.dead_letter import Rejected
    from tests.support.otlp_forms import check_scan, request_of, sized
    from tests.support.otlp_reference import ReferenceDecoder
    from udfs.otlp.decoder import DecodeSettings, Records, SpanDecoder, decode_logs, decode_metrics

# Lower than the default bounds, with which one input of 2-byte spans would take seconds.
_SETTINGS = DecodeSettings(message_bytes_max=1 << 16, spans_max=10_000, resources_cached_max=64)
_SCANNER = SpanDecoder(_SETTINGS)
_REFERENCE = ReferenceDecoder(_SETTINGS)


def fuzz(data: bytes) -> None:
    """Decode the bytes as a request, and as the content of a span, a resource, a status and an exception."""
    inside = (request_of(sized(15, data)), request_of(sized(11, sized(2, b"exception") + data)))
    whole = (data, request_of(data), request_of(b"", resource=data), *inside)
    for message in whole:
        check_scan(message, _SCANNER, _REFERENCE)
    for result in (decode_logs(data, _SETTINGS), decode_metrics(data, _SETTINGS)):
        assert isinstance(result, Records | Rejected), result


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
