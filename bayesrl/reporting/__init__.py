"""Reports of runs: read, compared, explained, and written as a page."""
