"""Proof that a point can be restored: it is put on a throw-away branch, mounted, checked, and given to a program."""
