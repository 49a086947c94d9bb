"""Fuzz all decoders: `python tests/fuzz/fuzz_decoders.py -max_total_time=20 [corpus folder]`, libFuzzer's options.

NUMBA_DISABLE_JIT=1 runs the kernels as plain Python: slower, but libFuzzer then sees their branches and finds inputs
that reach them; the corpus so made is worth a run without it.

Needs atheris, which is not among the project's dependencies: `pip install atheris==3.0.0`. Bounds checks are compiled
into the kernels here, so a read outside of a message is an exception and not silence. Any exception is a finding;
libFuzzer writes its bytes to a file `crash-*`, which is also the argument that repeats it.
"""

import os
import sys
import tempfile
from pathlib import Path

# Before numba is imported. The folder keeps kernels with checks away from the ones without.
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
    from udfs.otlp.decoder import DecodeSettings, SpanDecoder, decode_logs, decode_metrics

# An honest bound would let one input of 2-byte spans take seconds.
_SETTINGS = DecodeSettings(message_bytes_max=1 << 16, spans_max=10_000, resources_cached_max=64)
_SCANNER = SpanDecoder(_SETTINGS)
_REFERENCE = ReferenceDecoder(_SETTINGS)


def fuzz(data: bytes) -> None:
    """Decode bytes as they are and as the inside of a span, of a resource, of a status and of an exception."""
    inside = (request_of(sized(15, data)), request_of(sized(11, sized(2, b"exception") + data)))
    whole = (data, request_of(data), request_of(b"", resource=data), *inside)
    for message in whole:
        check_scan(message, _SCANNER, _REFERENCE)
    for found in (decode_logs(data, _SETTINGS), decode_metrics(data, _SETTINGS)):
        assert isinstance(found, tuple | Rejected), found


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
