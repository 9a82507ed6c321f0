"""Encoding "generated": the columns as they are, and a bounded number of columns made from them."""
