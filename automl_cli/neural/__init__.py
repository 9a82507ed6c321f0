"""Networks for tables: what they look like (`architecture`), and with torch how they are built and trained."""
