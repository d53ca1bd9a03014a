"""Decides. Pure: no clock, I/O, randomness or logging; integers and frozen values in, values or plans out."""
