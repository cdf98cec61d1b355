"""A fake Realtime API over real sockets; it shares no protocol code with what it tests."""
