"""Everything that goes out to the Realtime API: addresses, credentials, REST requests, attached calls."""
