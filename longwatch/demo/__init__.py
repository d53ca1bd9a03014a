"""The demo: a fleet of agents on real input under faults, beside the same work without Longwatch."""
