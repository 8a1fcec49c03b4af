"""From words to a run: configuration, checks, building, run directories, one run or many."""
