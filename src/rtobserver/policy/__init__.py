"""Decide what is done about a call: rules, what they see, and what they decide. Pure."""
