"""The scheduler's decisions as pure functions over values: no I/O, no clock, no randomness of its own."""
