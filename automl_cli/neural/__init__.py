"""Networks for tables: what they look like (`architecture`), and with torch how they are built and trained."""

NEURAL = "neural"
"""Name of the family, and of the extra that it needs."""
