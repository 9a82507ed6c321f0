"""Several systems over the same tables, turn about on one machine: `run` fits them, `report` says what came out."""
