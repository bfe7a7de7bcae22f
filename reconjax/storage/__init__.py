"""Files that are whole or absent, and finished parts of a long run.

files   a folder that can be written to, atomic replacement
parts   finished parts of a run, which goes on after them
"""
