"""One observer per call: a pure machine decides, a thin observer does, a supervisor keeps them."""
