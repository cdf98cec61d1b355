"""Stand between browsers and the GPT Realtime API, and record what is said.

Data runs one way: offer -> negotiation -> upstream -> Location -> observer -> machine -> {policy
-> command, recorder -> store} -> web. Imports run the same way (`docs/design.md`, section 3).
"""

__version__ = "0.1.0"
