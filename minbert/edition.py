"""What a student's copy has otherwise than the library; lab/handout.py writes the copy's own file.

The values of this one are the library's.
"""

VERSION = "0.1.0"
"""Of the library, also where a copy was made from it."""
COMMIT = "$Format:%H$"
"""What the files are of, which `git archive` puts here (.gitattributes), and who makes a copy."""
PLAIN = False
"""Whether training goes through the steps as they are written out, unless it is told otherwise."""
