"""Learning for one table with the help of another: weights, alignments, corrections, and who judges them.

Everything here is functions of arrays: the source is the table with many labels, the target the one that counts.
"""
