"""Pure functions over the types of `state_schemas`: no clock, no I/O, no engine."""
