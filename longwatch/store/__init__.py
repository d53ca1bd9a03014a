"""Remembers: one method is one transaction. SQL lives in sql/, by name."""
