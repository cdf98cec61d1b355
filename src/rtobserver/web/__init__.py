"""Answer HTTP: browsers on the public listener, operators on the other."""
