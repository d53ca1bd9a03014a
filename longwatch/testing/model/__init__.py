"""The stores and the limiter as dictionaries: what every engine has to agree with.

The model is written from the promises, not from the SQL. It may be slow, and it remembers everything; what it must be is
obviously right. Where a policy is the specification it asks the policy; everything else is its own.
"""
