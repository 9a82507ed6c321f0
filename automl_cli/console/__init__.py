"""What a person sees: a live view of a fit, and tables of what the other commands found."""
