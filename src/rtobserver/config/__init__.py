"""The operator's settings: `sections` says which there are, `load` reads them."""
