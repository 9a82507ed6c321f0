"""From columns to numbers: the frame, and the encodings a family may choose from."""
