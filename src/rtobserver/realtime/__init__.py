"""The upstream protocol as values. Pure: no I/O, no clock, no randomness."""
