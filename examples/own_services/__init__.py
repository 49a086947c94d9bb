"""Five services of a shop with the OpenTelemetry SDK, and the faults that can be switched on in them."""
