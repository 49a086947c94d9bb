"""Laws of OTLP decoding."""
